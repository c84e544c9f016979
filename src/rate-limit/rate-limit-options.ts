import { z } from "zod";

import { type Duration, show, toMilliseconds } from "../duration.ts";
import { assertName, duration, readOptions } from "../options.ts";
import { fixedWindow } from "./fixed-window.ts";
import type { Rule } from "./rule.ts";
import { tokenBucket } from "./token-bucket.ts";

export interface RateLimitOptions {
  /** How many are allowed in a time of `per`. */
  readonly limit: number;
  /** For `"fixed"` whole seconds. */
  readonly per: Duration;
  /**
   * `"fixed"` (default): windows of `per` that follow each other, the first of all at the Unix epoch; up to `limit` in each.
   * `"token-bucket"`: an allowance that grows steadily by `limit` in each `per`, and is used up as it is.
   */
  readonly algorithm?: "fixed" | "token-bucket" | undefined;
  /** How much the allowance of a token bucket grows to while nothing uses it. Default: `limit`. */
  readonly burst?: number | undefined;
}

const MOST = 1_000_000_000;

const OPTIONS = z.strictObject({
  limit: z.int().min(1).max(MOST),
  per: duration,
  algorithm: z.enum(["fixed", "token-bucket"]).optional(),
  burst: z.int().min(1).max(MOST).optional(),
}) as z.ZodType<RateLimitOptions>;

/** Between the name of a limit and a key. It reads as it is meant, and occurs in neither. */
const SEPARATOR = "\u001f";

/** @throws TypeError, RangeError */
export function readRateLimit(name: string, options: RateLimitOptions): Rule {
  assertName(name, "rateLimit: name");
  assertNoSeparator(name, "rateLimit: name");
  const { limit, per, algorithm, burst } = readOptions("rateLimit", OPTIONS, options);
  const milliseconds = toMilliseconds(per, "rateLimit: per");
  if (milliseconds <= 0) throw new RangeError(`rateLimit: per must be more than 0, got ${show(per)}`);
  if (algorithm === "token-bucket") return tokenBucket(limit, milliseconds, burst ?? limit);
  if (burst !== undefined) throw new TypeError('rateLimit: burst needs algorithm "token-bucket"');
  if (milliseconds % 1_000 !== 0) {
    const hint =
      typeof per === "number" ? `${per} is ${per} ms; did you mean "${per}s"?` : `got ${show(per)}`;
    throw new RangeError(`rateLimit: per must be whole seconds for algorithm "fixed": ${hint}`);
  }
  return fixedWindow(limit, milliseconds / 1_000);
}

/** How the limit of a key is stored: unlike any other name, with a key or without. */
export function storedName(name: string, key: string | undefined, call: string): string {
  if (key === undefined) return name;
  assertName(key, `${call}: key`);
  return `${name}${SEPARATOR}${key}`;
}

/** @throws TypeError, RangeError */
export function readCost(cost: number | undefined, most: number, call: string): number {
  if (cost === undefined) return 1;
  if (Number.isSafeInteger(cost) && cost >= 1 && cost <= most) return cost;
  throw new RangeError(
    `${call}: cost must be an integer from 1 to ${most}, which is all that is ever allowed at once, got ${show(cost)}`,
  );
}

function assertNoSeparator(name: string, what: string): void {
  if (name.includes(SEPARATOR)) {
    throw new TypeError(`${what} must not contain the character U+001F, got ${show(name)}`);
  }
}
