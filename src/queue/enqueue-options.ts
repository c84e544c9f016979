import { toUnixSeconds } from "../clock.ts";
import { type Duration, type Instant, show, toEpoch, toMilliseconds } from "../duration.ts";
import { assertKnown } from "../options.ts";
import type { TxOption } from "../transaction-option.ts";
import { FLOW, type FlowOptions, type JobFlow, readFlow } from "./flow-options.ts";

export interface EnqueueOptions extends TxOption, FlowOptions {
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
  readonly flow: JobFlow | undefined;
}

const KNOWN = new Set(["tx", "delay", "runAt", "priority", "expiresIn", "maxAttempts", ...FLOW]);

/**
 * Reads the options of one job. By hand, because enqueueing is a hot path. `call` names it in errors.
 * @throws TypeError, RangeError
 */
export function readEnqueueOptions(
  options: EnqueueOptions | undefined,
  maxAttempts: number,
  now: number,
  call: string,
): JobTerms {
  if (options === undefined) return { due: now, priority: 0, maxAttempts, expiresAt: null, flow: undefined };
  assertKnown(call, options, KNOWN);
  return {
    due: readDue(options, now, call),
    priority: options.priority === undefined ? 0 : readPriority(options.priority, call),
    maxAttempts:
      options.maxAttempts === undefined
        ? maxAttempts
        : readMaxAttempts(options.maxAttempts, `${call}: maxAttempts`),
    expiresAt: options.expiresIn === undefined ? null : readExpiry(options.expiresIn, now, call),
    flow: readFlow(options, now, call),
  };
}

/** @throws RangeError */
export function readMaxAttempts(value: number, option: string): number {
  if (Number.isInteger(value) && value >= 1 && value <= 1_000_000) return value;
  throw new RangeError(`${option} must be an integer from 1 to 1000000, got ${show(value)}`);
}

/** @throws RangeError */
export function readPriority(value: number, call: string): number {
  if (Number.isInteger(value) && value >= -100 && value <= 100) return value;
  throw new RangeError(
    `${call}: priority must be an integer from -100 to 100 (higher runs first), got ${show(value)}`,
  );
}

function readDue(options: EnqueueOptions, now: number, call: string): number {
  const { delay, runAt } = options;
  if (delay !== undefined && runAt !== undefined)
    throw new TypeError(`${call}: give delay or runAt, not both`);
  if (delay !== undefined) return toEpoch(now + toMilliseconds(delay, `${call}: delay`), `${call}: delay`);
  return runAt === undefined ? now : toEpoch(runAt, `${call}: runAt`);
}

function readExpiry(value: Duration, now: number, call: string): number {
  const option = `${call}: expiresIn`;
  const expiry = now + toMilliseconds(value, option);
  return Math.max(Math.ceil(toEpoch(expiry, option) / 1_000), toUnixSeconds(now) + 1);
}
