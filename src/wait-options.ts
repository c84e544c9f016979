import { z } from "zod";

import { type Duration, toMilliseconds } from "./duration.ts";
import { duration, readOptions, signal } from "./options.ts";
import type { SignalOption } from "./signal.ts";

/** What every call takes that waits for one thing. */
export interface WaitOptions extends SignalOption {
  /** Gives up after so long, from the call on, with `WaitTimeoutError`. Default: never. */
  readonly timeout?: Duration | undefined;
}

const WAIT_OPTIONS = z.strictObject({
  signal: signal.optional(),
  timeout: duration.optional(),
}) as z.ZodType<WaitOptions>;

/** @throws TypeError, RangeError */
export function readWaitOptions(
  call: string,
  options: WaitOptions | undefined,
): { readonly signal: AbortSignal | undefined; readonly timeout: number | undefined } {
  const read = readOptions(call, WAIT_OPTIONS, options);
  return {
    signal: read.signal,
    timeout: read.timeout === undefined ? undefined : toMilliseconds(read.timeout, `${call}: timeout`),
  };
}
