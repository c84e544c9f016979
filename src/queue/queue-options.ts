import { z } from "zod";

import { type Duration, show, toMilliseconds } from "../duration.ts";
import { duration, readOptions, signal } from "../options.ts";
import type { Schema } from "../payload.ts";
import type { SignalOption } from "../signal.ts";
import { type Backoff, backoff, readBackoff } from "./backoff.ts";
import { readMaxAttempts } from "./enqueue-options.ts";

export interface QueueOptions {
  /** How often a job is tried; stored with the job. Default 3. */
  readonly maxAttempts?: number | undefined;
  /**
   * How long a claim holds without being renewed, from the claim on; then the job may be claimed by somebody else.
   * Rounded up to a whole second. Default `"5m"`; under `work`, which renews, `"60s"`.
   */
  readonly visibilityTimeout?: Duration | undefined;
  /** How long a job waits after a failed attempt. Default exponential from 5 s, at most 1 h, jitter 0.2. */
  readonly backoff?: Backoff | ((attempt: number) => Duration) | undefined;
  /** How long completed jobs and their results are kept, from the ack on; true: for ever. Default false: not at all. */
  readonly keepResult?: boolean | Duration | undefined;
}

export interface QueueSchemas {
  /** Of the payload. */
  readonly schema?: Schema | undefined;
  /** Of what `job.ack({ result })` takes. */
  readonly result?: Schema | undefined;
}

export interface ClaimOptions extends SignalOption {
  /** Default: the queue's. */
  readonly visibilityTimeout?: Duration | undefined;
  /** A label for people who read the table; not an identity. Default: the process id. */
  readonly worker?: string | undefined;
  /**
   * How many jobs `claim` claims ahead of the current one, so that not each needs a transaction of its own. Their claims are
   * renewed; what the loop has not come to when it ends is given back without using an attempt. Default 0.
   */
  readonly prefetch?: number | undefined;
}

export const standardSchema: z.ZodType<Schema> = z.custom<Schema>(
  (value) => typeof (value as Schema | null)?.["~standard"]?.validate === "function",
  "must be a Standard Schema",
);

const QUEUE_OPTIONS = z.strictObject({
  schema: standardSchema.optional(),
  result: standardSchema.optional(),
  maxAttempts: z.number().optional(),
  visibilityTimeout: duration.optional(),
  backoff: backoff.optional(),
  keepResult: z.union([z.boolean(), duration], "must be a boolean or a duration").optional(),
});

const CLAIM_OPTIONS = z.strictObject({
  signal: signal.optional(),
  visibilityTimeout: duration.optional(),
  worker: z.string().optional(),
  prefetch: z.int().min(0).max(1_000).optional(),
}) as z.ZodType<ClaimOptions>;

/** What a queue's options say. Times in milliseconds. */
export interface QueueTerms {
  readonly schema: Schema | undefined;
  readonly resultSchema: Schema | undefined;
  readonly maxAttempts: number;
  readonly visibilityTimeout: number | undefined;
  readonly backoff: (attempt: number) => number;
  /** 0 for ever, null not at all. */
  readonly keepResult: number | null;
}

/**
 * `call` names it in errors.
 * @throws TypeError, RangeError
 */
export function readQueueOptions(
  call: string,
  options: (QueueOptions & QueueSchemas) | undefined,
): QueueTerms {
  const read = readOptions(call, QUEUE_OPTIONS, options);
  return {
    schema: read.schema,
    resultSchema: read.result,
    maxAttempts: readMaxAttempts(read.maxAttempts ?? 3, `${call}: maxAttempts`),
    visibilityTimeout: readVisibility(read.visibilityTimeout, call),
    backoff: readBackoff(read.backoff, call),
    keepResult: readKeepResult(read.keepResult ?? false, call),
  };
}

/** Read when the call is made: a loop that claims in the background could only report what is wrong. */
export interface ClaimTerms {
  readonly signal: AbortSignal | undefined;
  readonly label: string | number;
  /** Milliseconds; undefined for the queue's. */
  readonly visibilityTimeout: number | undefined;
  readonly prefetch: number;
}

/** @throws TypeError, RangeError */
export function readClaimOptions(
  call: string,
  workerOrOptions: string | ClaimOptions | undefined,
  more: ClaimOptions | undefined,
): ClaimTerms {
  const isNamed = typeof workerOrOptions === "string";
  const options = readOptions(call, CLAIM_OPTIONS, isNamed ? more : workerOrOptions);
  return {
    signal: options.signal,
    label: isNamed ? workerOrOptions : (options.worker ?? process.pid),
    visibilityTimeout: readVisibility(options.visibilityTimeout, call),
    prefetch: options.prefetch ?? 0,
  };
}

function readVisibility(value: Duration | undefined, call: string): number | undefined {
  if (value === undefined) return undefined;
  const milliseconds = toMilliseconds(value, `${call}: visibilityTimeout`);
  if (milliseconds > 0) return milliseconds;
  throw new RangeError(`${call}: visibilityTimeout must be more than 0, got ${show(value)}`);
}

function readKeepResult(value: boolean | Duration, call: string): number | null {
  if (typeof value === "boolean") return value ? 0 : null;
  const milliseconds = Math.ceil(toMilliseconds(value, `${call}: keepResult`));
  return milliseconds > 0 ? milliseconds : null; // 0 is stored for "for ever"
}
