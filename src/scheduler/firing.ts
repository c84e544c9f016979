import type { OnSwept } from "../queue/burial.ts";
import { insertJobs } from "../queue/insertion.ts";
import { type NewJob, newJob } from "../queue/new-job.ts";
import type { Connection } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";
import { prepareScheduleStatements, type ScheduleRow } from "./statements.ts";
import { lastBefore, type Timing, timingOf } from "./timing.ts";
import type { Unreadable } from "./unreadable.ts";

/** Schedules that one transaction fires at most, and boundaries of one of them. */
const PORTION = 500;
const MOST_AT_ONCE = 100;

/** Boundaries that were due, and what follows. */
interface Due {
  readonly boundaries: readonly number[];
  readonly next: number | null;
}

export interface FiringHost {
  readonly unreadable: Unreadable;
  readonly onSwept: OnSwept;
}

/**
 * Adds the jobs of all boundaries that have come, and moves the schedules on, in a transaction. Boundaries before `seenSince` were
 * missed. What is more than one transaction should do is due still.
 */
export function fireDue(
  connection: Connection,
  now: number,
  seenSince: number,
  { unreadable, onSwept }: FiringHost,
): void {
  const { due, setNext, ticked } = connection.use(prepareScheduleStatements);
  const rows = due.all(now, unreadable.names, PORTION);
  if (rows.length === 0) return;
  const jobs: NewJob[] = [];
  for (const row of rows) {
    const timing = unreadable.tryRead(row.name, describe(row), () => timingOf(row));
    if (timing === null) continue;
    const { boundaries, next } = dueOf(row, timing, now, seenSince);
    for (const boundary of boundaries) jobs.push(jobOf(row, boundary, now));
    assertStored("_honkbun_schedules", setNext.run(row.name, next).changes > 0); // or it would be due for ever
  }
  insertJobs(connection, jobs, onSwept);
  ticked.run(now);
}

/** What a schedule goes by, to tell whether it was mended. */
export function describe({ cron, timezone }: ScheduleRow): string {
  return JSON.stringify([cron, timezone]);
}

/** The job of a schedule that is due now. */
export function jobOf(row: ScheduleRow, boundary: number, now: number): NewJob {
  const { queue, payload, priority, max_attempts, expires_in, keep_result, group_key, unique_key } = row;
  const due = boundary + Math.floor(Math.random() * (row.jitter + 1));
  const isAlone = group_key === null && unique_key === null;
  return newJob(
    queue,
    payload,
    {
      due,
      priority,
      maxAttempts: max_attempts,
      expiresAt: expires_in === null ? null : Math.ceil((Math.max(due, now) + expires_in) / 1_000),
      flow: isAlone
        ? undefined
        : {
            group: group_key,
            after: [],
            buries: true,
            unique:
              unique_key === null
                ? null
                : { key: unique_key, untilStart: false, until: null, onDuplicate: "keep" },
            call: `schedule ${row.name}`,
          },
    },
    keep_result,
    now,
  );
}

/**
 * Lets schedules go on whose next boundary lies in a future that the clock has left, when they go by the time that passes; those
 * that go by the calendar wait for it, because they have fired already. From a name on, some at a time; returns the last name, or
 * null when these were all.
 */
export function followClock(
  connection: Connection,
  now: number,
  after: string,
  unreadable: Unreadable,
): string | null {
  const { later, setNext } = connection.use(prepareScheduleStatements);
  const rows = later.all(after, now, PORTION);
  for (const row of rows) {
    const timing = unreadable.tryRead(row.name, describe(row), () => timingOf(row));
    if (!timing?.isByElapsedTime) continue;
    const next = timing.next(now);
    if (next !== null && next < (row.next_fire_at as number)) setNext.run(row.name, next);
  }
  return rows.length < PORTION ? null : (rows.at(-1)?.name ?? null);
}

function dueOf(row: ScheduleRow, timing: Timing, now: number, seenSince: number): Due {
  const first = row.next_fire_at as number;
  const seen: number[] = [];
  let next: number | null = first < seenSince ? timing.next(seenSince - 1) : first;
  for (; next !== null && next <= now && seen.length < MOST_AT_ONCE; next = timing.next(next))
    seen.push(next);
  if (first >= seenSince || row.missed === 0) return { boundaries: seen, next };
  // One run makes up for all, and one that was seen does so as well.
  if (row.missed < 0 && seen.length > 0) return { boundaries: seen, next };
  const missed = lastBefore(timing, first, seenSince, Math.abs(row.missed));
  return { boundaries: [...missed, ...seen], next };
}
