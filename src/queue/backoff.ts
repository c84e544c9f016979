import { z } from "zod";

import { type Duration, toMilliseconds } from "../duration.ts";
import { duration } from "../options.ts";

/** How long a job waits after a failed attempt. */
export interface Backoff {
  /** Default `"exponential"`: base, 2 × base, 4 × base …; `"linear"`: base, 2 × base, 3 × base …; `"fixed"`: base. */
  readonly type?: "fixed" | "linear" | "exponential" | undefined;
  /** After the first attempt. Default `"5s"`. */
  readonly base?: Duration | undefined;
  /** Default `"1h"`. */
  readonly max?: Duration | undefined;
  /** By which share a delay is randomly shortened or lengthened, 0 to 1. Default 0.2. */
  readonly jitter?: number | undefined;
}

export const backoff: z.ZodType<Backoff | ((attempt: number) => Duration)> = z.union(
  [
    z.custom<(attempt: number) => Duration>((value) => typeof value === "function"),
    z.strictObject({
      type: z.enum(["fixed", "linear", "exponential"]).optional(),
      base: duration.optional(),
      max: duration.optional(),
      jitter: z.number().min(0).max(1).optional(),
    }),
  ],
  "must be a function, or { type, base, max, jitter } with a jitter from 0 to 1",
) as z.ZodType<Backoff | ((attempt: number) => Duration)>;

/** The same, for loops: where the application's own function fails, that is reported, and the default serves. */
export function safeBackoff(
  backoff: (attempt: number) => number,
  report: (error: unknown) => void,
): (attempt: number) => number {
  return (attempt) => {
    try {
      return backoff(attempt);
    } catch (error) {
      report(error);
      return DEFAULT(attempt);
    }
  };
}

/** The delay in milliseconds after attempt 1, 2, 3 …. */
export function readBackoff(
  options: Backoff | ((attempt: number) => Duration) | undefined,
  call: string,
): (attempt: number) => number {
  if (typeof options === "function") return (attempt) => toMilliseconds(options(attempt), `${call}: backoff`);
  const base = toMilliseconds(options?.base ?? "5s", `${call}: backoff.base`);
  const max = toMilliseconds(options?.max ?? "1h", `${call}: backoff.max`);
  const type = options?.type ?? "exponential";
  const jitter = options?.jitter ?? 0.2;
  return (attempt) => {
    const factor = type === "fixed" ? 1 : type === "linear" ? attempt : 2 ** (attempt - 1);
    const spread = 1 + jitter * (2 * Math.random() - 1);
    return Math.min(base * factor * spread, max);
  };
}

const DEFAULT = readBackoff(undefined, "queue");
