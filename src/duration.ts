/** Milliseconds, or text with a unit: `"250ms"`, `"10s"`, `"5m"`, `"2h"`, `"7d"`. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

/** The longest delay that a timer takes, in milliseconds: 24.8 days. */
export const LONGEST_TIMER: number = 2 ** 31 - 1;

/** A point in time: a `Date`, or milliseconds since the Unix epoch. */
export type Instant = Date | number;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
/** The furthest instant a `Date` can hold. */
const LAST_INSTANT = 8.64e15;

/**
 * Reads a duration as milliseconds.
 * @throws TypeError when it is neither a number nor text with a unit; RangeError when it is negative or not finite.
 */
export function toMilliseconds(value: Duration, option: string): number {
  if (typeof value === "number") {
    if (value >= 0 && value <= LAST_INSTANT) return value;
    throw new RangeError(`${option} must be a duration of 0 or more, and finite, got ${value}`);
  }
  const match = typeof value === "string" ? TEXT.exec(value) : null;
  if (match === null) {
    throw new TypeError(
      `${option} must be milliseconds or text like "250ms", "10s", "5m", "2h" or "7d", got ${show(value)}`,
    );
  }
  const milliseconds = Number(match[1]) * (UNITS[match[2] ?? ""] ?? Number.NaN);
  if (milliseconds <= LAST_INSTANT) return milliseconds;
  throw new RangeError(`${option} must be a duration of at most 100 million days, got ${show(value)}`);
}

/**
 * Reads an instant as milliseconds since the epoch, rounded up to a whole one.
 * @throws TypeError when it is neither a Date nor a number; RangeError when no date can be that.
 */
export function toEpoch(value: Instant, option: string): number {
  const epoch = value instanceof Date ? value.getTime() : value;
  if (typeof epoch !== "number") {
    throw new TypeError(`${option} must be a Date or epoch milliseconds, got ${show(value)}`);
  }
  if (!(epoch >= 0 && epoch <= LAST_INSTANT)) {
    throw new RangeError(`${option} must be a valid date from 1970 on, got ${show(value)}`);
  }
  return Math.ceil(epoch);
}

/** A value as an error message shows it: short, with its type where that is not plain. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "function" || typeof value === "symbol") return typeof value;
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "an invalid Date" : value.toISOString();
  if (value instanceof URL) return value.href;
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return String(value);
}
