import { toUnixSeconds } from "../clock.ts";
import { insertJobs } from "../queue/insertion.ts";
import { type NewJob, newJob } from "../queue/new-job.ts";
import type { Connection } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";
import type { FiringHost } from "./firing.ts";
import { readEvery } from "./schedule-options.ts";
import { type HonkerTask, prepareScheduleStatements } from "./statements.ts";
import { cronTiming, everyTiming, type Timing } from "./timing.ts";

/** Tasks that one transaction fires at most, and boundaries of one of them: then, as with honker, the others are passed over. */
const PORTION = 200;
const MOST_AT_ONCE = 64;

/** Of honker's schedule, in the system's zone, and where a day must be one of the month's and one of the week's at once. */
export function honkerTiming({ cron_expr, next_fire_at }: HonkerTask): Timing {
  const every = readEvery(cron_expr);
  if (every !== null) return everyTiming(every, next_fire_at * 1_000);
  return cronTiming(cron_expr, undefined, "both", "honker's schedule");
}

/** When it fires next after a time in milliseconds; in seconds. */
export function nextOf(timing: Timing, after: number): number {
  const next = timing.next(after);
  if (next === null) throw new RangeError("it never fires again");
  return Math.ceil(next / 1_000);
}

/** Does what honker does with its schedules that are due, in a transaction. */
export function fireHonkerTasks(
  connection: Connection,
  now: number,
  { unreadable, onSwept }: FiringHost,
): void {
  const { dueHonker, setNextHonker } = connection.use(prepareScheduleStatements);
  const rows = dueHonker.all(toUnixSeconds(now), unreadable.names, PORTION);
  const jobs: NewJob[] = [];
  for (const row of rows) {
    const due = unreadable.tryRead(row.name, row.cron_expr, () => dueOf(row, now));
    if (due === null) continue;
    for (let n = 0; n < due.count; n++) jobs.push(jobOfHonker(row, now));
    assertStored("_honker_scheduler_tasks", setNextHonker.run(row.name, due.next).changes > 0);
  }
  if (jobs.length > 0) insertJobs(connection, jobs, onSwept);
}

function dueOf(row: HonkerTask, now: number): { readonly count: number; readonly next: number } {
  const timing = honkerTiming(row);
  let next = row.next_fire_at;
  let count = 0;
  for (; next * 1_000 <= now && count < MOST_AT_ONCE; count++) next = nextOf(timing, next * 1_000);
  return { count, next: next * 1_000 <= now ? nextOf(timing, now) : next };
}

export function jobOfHonker(
  { queue, payload, priority, expires_s, max_attempts }: HonkerTask,
  now: number,
): NewJob {
  const terms = {
    due: now,
    priority,
    maxAttempts: max_attempts,
    expiresAt: expires_s === null ? null : toUnixSeconds(now) + expires_s,
    flow: undefined,
  };
  return newJob(queue, payload, terms, null, now);
}
