import { z } from "zod";

import { type Duration, show, toMilliseconds } from "../duration.ts";
import { duration, readOptions, signal } from "../options.ts";
import type { Running } from "../running.ts";
import type { SignalOption } from "../signal.ts";

export interface WorkOptions extends SignalOption {
  /** How many handlers run at once, in this process. Default 1. */
  readonly concurrency?: number | undefined;
  /**
   * How long a handler may take, from its start. Then `job.signal` aborts; an attempt that has not ended a second later has
   * failed. Default: as long as it likes.
   */
  readonly timeout?: Duration | undefined;
  /**
   * How many jobs are claimed ahead of those that run, so that short handlers need not wait for a transaction each.
   * `"auto"` (default): a few milliseconds of work, none for handlers that take longer. What waits is given back when its turn
   * does not come soon.
   */
  readonly prefetch?: "auto" | number | undefined;
  /** SIGTERM and SIGINT stop the worker; a second one ends the process at once, and gives back what runs. Default false. */
  readonly signals?: boolean | undefined;
  /** A label for people who read the table; not an identity. Default: the process id. */
  readonly name?: string | undefined;
}

/** Handlers at work. `signal` of the options and `stop` let those finish that run. */
export interface Worker extends Running {
  /** How many handlers are running. */
  readonly running: number;
}

const WORK_OPTIONS = z.strictObject({
  signal: signal.optional(),
  concurrency: z.int().min(1).max(10_000).optional(),
  timeout: duration.optional(),
  prefetch: z
    .union([z.literal("auto"), z.int().min(0).max(1_000)], 'must be "auto" or an integer from 0 to 1000')
    .optional(),
  signals: z.boolean().optional(),
  name: z.string().optional(),
}) as z.ZodType<WorkOptions>;

/** What the options of a worker say. Times in milliseconds. */
export interface WorkTerms {
  readonly signal: AbortSignal | undefined;
  readonly concurrency: number;
  readonly timeout: number | undefined;
  readonly prefetch: "auto" | number;
  readonly signals: boolean;
  readonly label: string | number;
}

/** @throws TypeError, RangeError */
export function readWorkOptions(options: WorkOptions | undefined): WorkTerms {
  const read = readOptions("work", WORK_OPTIONS, options);
  return {
    signal: read.signal,
    concurrency: read.concurrency ?? 1,
    timeout: readTimeout(read.timeout, "work"),
    prefetch: read.prefetch ?? "auto",
    signals: read.signals ?? false,
    label: read.name ?? process.pid,
  };
}

/** @throws TypeError, RangeError */
export function readTimeout(value: Duration | undefined, call: string): number | undefined {
  if (value === undefined) return undefined;
  const timeout = toMilliseconds(value, `${call}: timeout`);
  if (timeout > 0) return timeout;
  throw new RangeError(`${call}: timeout must be more than 0, got ${show(value)}`);
}
