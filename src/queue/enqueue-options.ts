import { toUnixSeconds } from "../clock.ts";
import { type Duration, type Instant, show, toEpoch, toMilliseconds } from "../duration.ts";
import type { TxOption } from "../transaction-option.ts";

export interface EnqueueOptions extends TxOption {
  /** Run no sooner than so long from now. Default 0. */
  readonly delay?: Duration | undefined;
  /** Run no sooner than then. Not together with `delay`. */
  readonly runAt?: Instant | undefined;
  /** Integer from -100 to 100; higher runs first. Default 0. */
  readonly priority?: number | undefined;
  /** Buried as expired when not claimed for so long from now; rounded up to a whole second. Default: never. */
  readonly expiresIn?: Duration | undefined;
  /** How often it is tried. Default: the queue's `maxAttempts`. */
  readonly maxAttempts?: number | undefined;
}

/** What is stored of the options. */
export interface JobTerms {
  /** Epoch milliseconds. */
  readonly due: number;
  readonly priority: number;
  readonly maxAttempts: number;
  /** Unix seconds. */
  readonly expiresAt: number | null;
}

const KNOWN = new Set(["tx", "delay", "runAt", "priority", "expiresIn", "maxAttempts"]);

/**
 * Reads the options of one job. By hand, because enqueueing is a hot path.
 * @throws TypeError, RangeError
 */
export function readEnqueueOptions(
  options: EnqueueOptions | undefined,
  maxAttempts: number,
  now: number,
): JobTerms {
  if (options === undefined) return { due: now, priority: 0, maxAttempts, expiresAt: null };
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`enqueue: options must be an object, got ${show(options)}`);
  }
  for (const key in options) {
    if (!KNOWN.has(key)) throw new TypeError(`enqueue: unknown option ${key}`);
  }
  return {
    due: readDue(options, now),
    priority: options.priority === undefined ? 0 : readPriority(options.priority),
    maxAttempts:
      options.maxAttempts === undefined
        ? maxAttempts
        : readMaxAttempts(options.maxAttempts, "enqueue: maxAttempts"),
    expiresAt: options.expiresIn === undefined ? null : readExpiry(options.expiresIn, now),
  };
}

/** @throws RangeError */
export function readMaxAttempts(value: number, option: string): number {
  if (Number.isInteger(value) && value >= 1 && value <= 1_000_000) return value;
  throw new RangeError(`${option} must be an integer from 1 to 1000000, got ${show(value)}`);
}

function readDue(options: EnqueueOptions, now: number): number {
  const { delay, runAt } = options;
  if (delay !== undefined && runAt !== undefined)
    throw new TypeError("enqueue: give delay or runAt, not both");
  if (delay !== undefined) return toEpoch(now + toMilliseconds(delay, "enqueue: delay"), "enqueue: delay");
  return runAt === undefined ? now : toEpoch(runAt, "enqueue: runAt");
}

function readPriority(value: number): number {
  if (Number.isInteger(value) && value >= -100 && value <= 100) return value;
  throw new RangeError(
    `enqueue: priority must be an integer from -100 to 100 (higher runs first), got ${show(value)}`,
  );
}

function readExpiry(value: Duration, now: number): number {
  const expiry = now + toMilliseconds(value, "enqueue: expiresIn");
  return Math.max(Math.ceil(toEpoch(expiry, "enqueue: expiresIn") / 1_000), toUnixSeconds(now) + 1);
}
