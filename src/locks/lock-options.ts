import { z } from "zod";

import { type Duration, show, toMilliseconds } from "../duration.ts";
import { assertName, duration, readOptions } from "../options.ts";

export interface LockOptions {
  /**
   * For how long the lock holds though nothing is heard of its holder, rounded up to a whole second. While it is held it is
   * renewed after each third of that; a holder whose process has died loses it within a second. Default `"30s"`.
   */
  readonly ttl?: Duration | undefined;
  /** A label for people who look who holds the lock; not an identity. Default: the process id. */
  readonly owner?: string | undefined;
}

const LOCK_OPTIONS = z.strictObject({
  ttl: duration.optional(),
  owner: z.string().optional(),
}) as z.ZodType<LockOptions>;

export interface LockTerms {
  /** Seconds. */
  readonly ttl: number;
  readonly label: string | number;
}

/** @throws TypeError, RangeError */
export function readLockOptions(call: string, name: string, options: LockOptions | undefined): LockTerms {
  assertName(name, `${call}: name`);
  const { ttl, owner } = readOptions(call, LOCK_OPTIONS, options);
  if (owner !== undefined) assertName(owner, `${call}: owner`);
  return { ttl: readTtl(ttl ?? "30s", call), label: owner ?? process.pid };
}

/** In whole seconds. @throws TypeError, RangeError */
export function readTtl(value: Duration, call: string): number {
  const ttl = toMilliseconds(value, `${call}: ttl`);
  if (ttl > 0) return Math.ceil(ttl / 1_000);
  throw new RangeError(`${call}: ttl must be more than 0, got ${show(value)}`);
}
