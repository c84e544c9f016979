import { z } from "zod";

import { type Duration, show } from "./duration.ts";

/** For option schemas; the value is read by `toMilliseconds`, which knows the option's name. */
export const duration: z.ZodType<Duration> = z.custom<Duration>(
  (value) => typeof value === "number" || typeof value === "string",
  'must be milliseconds or text like "250ms", "10s", "5m", "2h" or "7d"',
);
export const signal: z.ZodType<AbortSignal> = z.instanceof(AbortSignal, {
  message: "must be an AbortSignal",
});
export const retention: z.ZodType<Retention> = z.strictObject({
  maxAge: duration.optional(),
  maxCount: z.int().min(0).optional(),
}) as z.ZodType<Retention>;

/** How long something is kept, and how much of it; without an option there is no such bound. */
export interface Retention {
  readonly maxAge?: Duration | undefined;
  readonly maxCount?: number | undefined;
}

/**
 * Validates a call's options.
 * @throws TypeError, or RangeError for a number out of bounds, naming call, option, rule and value.
 */
export function readOptions<T>(call: string, schema: z.ZodType<T>, options: unknown): T {
  const result = schema.safeParse(options ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue === undefined) throw new TypeError(`${call}: bad options`);
  if (issue.code === "unrecognized_keys") {
    throw new TypeError(`${call}: unknown option ${[...issue.path, issue.keys.join(", ")].join(".")}`);
  }
  const option = issue.path.join(".");
  const value = issue.path.reduce<unknown>(
    (outer, key) => (outer as Record<PropertyKey, unknown>)?.[key],
    options,
  );
  const message = `${call}: ${option === "" ? "options" : option}: ${issue.message}, got ${show(value)}`;
  throw issue.code === "too_small" || issue.code === "too_big"
    ? new RangeError(message)
    : new TypeError(message);
}

/**
 * Validates a name that will be stored: of a queue, a channel.
 * @throws TypeError
 */
export function assertName(value: unknown, what: string): asserts value is string {
  if (typeof value !== "string" || value === "") {
    throw new TypeError(`${what} must be a non-empty string, got ${show(value)}`);
  }
  // SQLite stores UTF-8, in which half a surrogate pair would come back as another name.
  if (!value.isWellFormed()) throw new TypeError(`${what} must be well-formed Unicode, got ${show(value)}`);
}

/**
 * Refuses options that do not exist, on hot paths where a schema would be felt.
 * @throws TypeError
 */
export function assertKnown(call: string, options: object | undefined, known: ReadonlySet<string>): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`${call}: options must be an object, got ${show(options)}`);
  }
  for (const key in options) {
    if (!known.has(key)) throw new TypeError(`${call}: unknown option ${key}`);
  }
}

const PAGE = z.strictObject({
  limit: z.int().min(1).max(10_000).optional(),
  after: z.int().min(0).optional(),
});

/**
 * Reads which part of a list is asked for.
 * @throws TypeError, RangeError
 */
export function readPage(
  call: string,
  options: { readonly limit?: number | undefined; readonly after?: number | undefined } | undefined,
): { readonly limit: number; readonly after: number } {
  const { limit, after } = readOptions(call, PAGE, options);
  return { limit: limit ?? 100, after: after ?? 0 };
}
