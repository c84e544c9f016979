import { show } from "../duration.ts";
import { type CronFields, nextWall, readCronFields } from "./cron-fields.ts";
import { Zone } from "./zone.ts";

const HOUR = 3_600_000;

/**
 * The boundaries of a cron expression by the clocks of a zone, which are set forwards in spring and back in autumn:
 *
 * - An expression for every hour goes by the time that passes: it fires whenever the clocks show a time that matches. So
 *   `* * * * *` neither stops nor doubles, and `0 * * * *` fires in both of the hours that look alike.
 * - Any other fires once for each date and time that matches: at a time that the clocks skip, when they do (once for all that are
 *   skipped together), and of a time that comes twice at the first. So a daily job runs once on each day.
 */
export interface Cron {
  readonly timezone: string;
  /** Whether it goes by the time that passes: an expression for every hour. */
  readonly isByElapsedTime: boolean;
  /** The first boundary strictly after `after`, in epoch milliseconds; null when there is none any more. */
  next(after: number): number | null;
}

export interface CronOptions {
  /** IANA name. Default: the system's. */
  readonly timezone?: string | undefined;
  /** Where both a day of the month and a weekday are given, `"either"` (default) matches, or only `"both"` at once. */
  readonly days?: "either" | "both" | undefined;
}

/** @throws TypeError for the expression, RangeError for the zone; `call` names them */
export function parseCron(
  expression: string,
  { timezone, days = "either" }: CronOptions,
  call: string,
): Cron {
  if (typeof expression !== "string") {
    throw new TypeError(`${call}: cron must be an expression like "0 2 * * *", got ${show(expression)}`);
  }
  const where = `${call}: cron ${show(expression)}`;
  const fields = readCronFields(expression, where);
  const zone = Zone.of(timezone, `${call}: timezone`);
  const next = (wall: number): number | null => nextWall(fields, wall, days);
  if (next(Date.UTC(2000)) === null) throw new TypeError(`${where}: never fires: there is no such date`);
  const isByElapsedTime = isEveryHour(fields);
  return {
    timezone: zone.name,
    isByElapsedTime,
    next: isByElapsedTime
      ? (after) => nextByElapsedTime(zone, next, after)
      : (after) => nextByWallTime(zone, next, after),
  };
}

function isEveryHour({ hours }: CronFields): boolean {
  return hours.length === 24;
}

function nextByWallTime(zone: Zone, next: (wall: number) => number | null, after: number): number | null {
  for (let wall = next(after + zone.offset(after)); wall !== null; wall = next(wall)) {
    const at = zone.instant(wall);
    if (at > after) return at;
  }
  return null;
}

/** From one change of the offset to the next, so that every time is looked at once, however the clocks show it. */
function nextByElapsedTime(zone: Zone, next: (wall: number) => number | null, after: number): number | null {
  let from = after;
  let offset = zone.offset(from);
  for (;;) {
    const wall = next(from + offset);
    if (wall === null) return null;
    const at = wall - offset;
    if (at - from > 48 * HOUR) {
      // Nothing in between, whatever changes there are.
      from = at - 36 * HOUR;
      offset = zone.offset(from);
    } else if (zone.offset(at) === offset) {
      return at;
    } else {
      const change = zone.change(from, at);
      from = change - 1;
      offset = zone.offset(change);
    }
  }
}
