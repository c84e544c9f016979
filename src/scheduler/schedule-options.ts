import { z } from "zod";

import { type Duration, type Instant, show, toEpoch, toMilliseconds } from "../duration.ts";
import { assertName, duration, readOptions } from "../options.ts";
import type { EnqueueOptions } from "../queue/enqueue-options.ts";
import type { NewJob } from "../queue/new-job.ts";
import { Queue } from "../queue/queue.ts";
import { Task } from "../task/task.ts";
import type { Definition } from "./statements.ts";
import { cronTiming } from "./timing.ts";

/** When a schedule fires. */
export type When =
  | {
      /**
       * Five fields (minute, hour, day of month, month, weekday) or six (seconds first), `@daily` and its kin, or `@every 5s`.
       * Fires at whole seconds.
       */
      readonly cron: string;
      /** IANA name of the zone whose clocks the expression is read by. Default: the system's. */
      readonly timezone?: string | undefined;
      readonly every?: undefined;
    }
  | {
      /** Each so many milliseconds, at least 100, counted from `startAt`, or from when the schedule was added. */
      readonly every: Duration;
      readonly cron?: undefined;
      readonly timezone?: undefined;
    };

export interface ScheduleOptions {
  /** Each run is put off by a random time up to this, so that not all begin at once. Default 0. */
  readonly jitter?: Duration | undefined;
  /** Never fires before. */
  readonly startAt?: Instant | undefined;
  /** Never fires after. */
  readonly endAt?: Instant | undefined;
  /** Default: as it is, and true for a new schedule. */
  readonly enabled?: boolean | undefined;
  /**
   * What becomes of boundaries that no scheduler was there to see. `"skip"` (default): nothing. `"latest"`: one run makes up for
   * all of them. `{ all: n }`: a run for each, but at most for the last n (1 to 1,000). A boundary that is seen less than 10
   * seconds late was not missed.
   */
  readonly missed?: "skip" | "latest" | { readonly all: number } | undefined;
  /** While a job with this key has not ended, the schedule adds no other. */
  readonly uniqueKey?: string | undefined;
  readonly group?: string | undefined;
  /** Integer from -100 to 100; higher runs first. Default 0, or the task's. */
  readonly priority?: number | undefined;
  /** The job is buried as expired when it is not claimed for so long after it was due. Default: never. */
  readonly expiresIn?: Duration | undefined;
  readonly maxAttempts?: number | undefined;
}

/** A task that is run on schedule, with its input. */
export interface TaskTarget<In> {
  readonly task: { readonly name: string; enqueue(input: In, options?: EnqueueOptions): unknown };
  readonly input?: NoInfer<In> | undefined;
  readonly queue?: undefined;
  readonly payload?: undefined;
}

/** A queue that gets a job on schedule, by itself or by its name. */
export interface QueueTarget<In> {
  readonly queue: { readonly name: string; enqueue(payload: In, options?: EnqueueOptions): number } | string;
  readonly payload?: NoInfer<In> | undefined;
  readonly task?: undefined;
  readonly input?: undefined;
}

export type AddOptions<In> = When & ScheduleOptions & (TaskTarget<In> | QueueTarget<In>);

/** Shorter times than this are no schedule. */
const SHORTEST_EVERY = 100;
const MOST_MADE_UP = 1_000;

const OPTIONS = z.strictObject({
  cron: z.string().optional(),
  timezone: z.string().optional(),
  every: duration.optional(),
  jitter: duration.optional(),
  startAt: z.unknown().optional(),
  endAt: z.unknown().optional(),
  enabled: z.boolean().optional(),
  missed: z
    .union(
      [z.literal("skip"), z.literal("latest"), z.strictObject({ all: z.int().min(1).max(MOST_MADE_UP) })],
      `must be "skip", "latest" or { all: n } with n from 1 to ${MOST_MADE_UP}`,
    )
    .optional(),
  uniqueKey: z.unknown().optional(),
  group: z.unknown().optional(),
  priority: z.unknown().optional(),
  expiresIn: duration.optional(),
  maxAttempts: z.unknown().optional(),
  task: z.instanceof(Task, { message: "must be a task of db.task" }).optional(),
  input: z.unknown().optional(),
  queue: z
    .union([z.string().min(1), z.instanceof(Queue)], "must be a queue of db.queue, or a queue's name")
    .optional(),
  payload: z.unknown().optional(),
}) as z.ZodType<AddOptions<unknown>>;

const EVERY = /^@every\s+(\d+)([smhd])$/i;

/** What is stored of a schedule, but for its state. `enabled` undefined: as it is. */
export interface NewSchedule {
  readonly definition: Omit<Definition, "enabled" | "anchor">;
  readonly enabled: boolean | undefined;
}

/**
 * Reads what defines a schedule. `queueOf` gives a queue by its name.
 * @throws TypeError, RangeError, PayloadError
 */
export function readSchedule(
  name: string,
  options: AddOptions<unknown>,
  queueOf: (name: string) => Queue<unknown>,
): NewSchedule {
  assertName(name, "scheduler.add: name");
  const call = `scheduler.add: ${name}`;
  const read = readOptions(call, OPTIONS, options);
  const { jitter, startAt, endAt, missed, expiresIn } = read;
  const job = draftJob(read, queueOf, call);
  const [queue, payload, priority, , , max_attempts, , , keep_result] = job.values;
  const start_at = startAt === undefined ? null : toEpoch(startAt, `${call}: startAt`);
  const end_at = endAt === undefined ? null : toEpoch(endAt, `${call}: endAt`);
  if (start_at !== null && end_at !== null && end_at < start_at) {
    throw new RangeError(`${call}: endAt must not be before startAt, got ${show(endAt)}`);
  }
  return {
    enabled: read.enabled,
    definition: {
      ...readWhen(read, call),
      start_at,
      end_at,
      jitter: jitter === undefined ? 0 : Math.ceil(toMilliseconds(jitter, `${call}: jitter`)),
      missed: missed === undefined || missed === "skip" ? 0 : missed === "latest" ? -1 : missed.all,
      queue,
      payload,
      priority,
      max_attempts,
      expires_in: expiresIn === undefined ? null : Math.ceil(toMilliseconds(expiresIn, `${call}: expiresIn`)),
      keep_result,
      group_key: job.flow?.group ?? null,
      unique_key: job.flow?.unique?.key ?? null,
    },
  };
}

/** The interval that honker's `@every` stands for, in milliseconds; null for another expression. */
export function readEvery(expression: string): number | null {
  const match = EVERY.exec(expression.trim());
  if (match === null) return null;
  const every = toMilliseconds(`${Number(match[1])}${match[2]?.toLowerCase() as "s"}`, "@every");
  return every > 0 ? every : null;
}

function readWhen(
  { cron, timezone, every }: When,
  call: string,
): Pick<Definition, "cron" | "timezone" | "every"> {
  if ((cron === undefined) === (every === undefined)) {
    throw new TypeError(`${call}: give cron or every${cron === undefined ? "" : ", not both"}`);
  }
  if (every === undefined) {
    const interval = readEvery(cron as string);
    if (interval !== null) return { cron: null, timezone: null, every: interval };
    cronTiming(cron as string, timezone, "either", call);
    return { cron: (cron as string).trim(), timezone: timezone ?? null, every: null };
  }
  if (timezone !== undefined) throw new TypeError(`${call}: timezone needs cron`);
  const interval = toMilliseconds(every, `${call}: every`);
  if (interval >= SHORTEST_EVERY) return { cron: null, timezone: null, every: Math.round(interval) };
  throw new RangeError(`${call}: every must be at least ${SHORTEST_EVERY} ms, got ${show(every)}`);
}

/** What each run is, checked as if it were enqueued now. */
function draftJob(
  options: AddOptions<unknown>,
  queueOf: (name: string) => Queue<unknown>,
  call: string,
): NewJob {
  const { task, input, queue, payload, uniqueKey, group, priority, expiresIn, maxAttempts } = options;
  if ((task === undefined) === (queue === undefined)) {
    throw new TypeError(`${call}: give task or queue${task === undefined ? "" : ", not both"}`);
  }
  if (task !== undefined && payload !== undefined) {
    throw new TypeError(`${call}: payload is for queue; a task has input`);
  }
  if (queue !== undefined && input !== undefined) {
    throw new TypeError(`${call}: input is for task; a queue has payload`);
  }
  const terms = definedOnly({ uniqueKey, group, priority, expiresIn, maxAttempts });
  if (task instanceof Task) return task.draft(input, terms, call);
  return (queue instanceof Queue ? queue : queueOf(queue as string)).draft(payload, terms, call);
}

function definedOnly(options: EnqueueOptions): EnqueueOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
