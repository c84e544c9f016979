import type { CronExpressionParser } from "cron-parser";

import { show } from "../duration.ts";

const DAY = 86_400_000;
/** Where there is nothing for so long there will never be anything: 29 February on a given weekday comes every 40 years at the latest. */
const LONGEST_GAP = 50 * 366 * DAY;

/** What an expression matches, but for names and signs. */
export interface CronFields {
  readonly seconds: readonly number[];
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly days: readonly number[];
  readonly isLastDay: boolean;
  readonly isEveryDay: boolean;
  readonly months: readonly number[];
  readonly weekdays: readonly Weekday[];
  readonly isEveryWeekday: boolean;
}

/** A weekday, from Sunday as 0: each one of a month, the so many-th, or the last. */
interface Weekday {
  readonly day: number;
  readonly which: "each" | "last" | number;
}

/** What one field matches. */
interface Field {
  readonly values: readonly (number | string)[];
  /** Only the so many-th of a month; 0 for each. */
  readonly nth: number;
  readonly isWildcard: boolean;
}

const FIELDS = [
  { name: "second", key: "second", span: 60 },
  { name: "minute", key: "minute", span: 60 },
  { name: "hour", key: "hour", span: 24 },
  { name: "day of month", key: "dayOfMonth", span: 31 },
  { name: "month", key: "month", span: 12 },
  { name: "weekday", key: "dayOfWeek", span: 7 },
] as const;

const SHORT: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
  "@minutely": "* * * * *",
  "@secondly": "* * * * * *",
  "@weekdays": "0 0 * * 1-5",
  "@weekends": "0 0 * * 0,6",
};
/** The library reads it as a time at random: another one in each process. */
const RANDOM = /^h($|[(/])/i;
/** A number, a name, or a sign. */
const PART = /^(\*|\?|\d+L?|[A-Z]{3}L?|L)$/;

/**
 * Reads an expression. `where` names it in errors.
 * @throws TypeError that says which field is wrong, and why
 */
export function readCronFields(expression: string, where: string): CronFields {
  const text = expression.trim().toUpperCase();
  const texts = (text.startsWith("@") ? readShort(text.toLowerCase(), where) : text).split(/\s+/);
  if (text === "" || texts.length < 5 || texts.length > 6) {
    throw new TypeError(
      `${where}: there must be 5 fields (minute, hour, day of month, month, weekday) or 6 (seconds first), or one of ` +
        `${Object.keys(SHORT).join(", ")}; got ${text === "" ? 0 : texts.length} fields`,
    );
  }
  if (texts.length === 5) texts.unshift("0");
  const skipped = 6 - (text.startsWith("@") ? 6 : text.split(/\s+/).length);
  const [seconds, minutes, hours, days, months, weekdays] = texts.map((field, index) => {
    const place = `${where}: ${FIELDS[index]?.name} (field ${index + 1 - skipped})`;
    const items = field.split(",").map((item) => readItem(item, index, place));
    return {
      // One by one, because the library takes no list that names a value twice.
      values: [...new Set(items.flatMap(({ values }) => values))],
      items,
      isWildcard: items.some(({ isWildcard }) => isWildcard),
    };
  }) as unknown as readonly [List, List, List, List, List, List];
  const numbers = ({ values }: List): number[] =>
    values.filter((value) => typeof value === "number").toSorted((a, b) => a - b);
  return {
    seconds: numbers(seconds),
    minutes: numbers(minutes),
    hours: numbers(hours),
    days: numbers(days),
    isLastDay: days.values.includes("L"),
    isEveryDay: days.isWildcard,
    months: numbers(months),
    weekdays: weekdays.items.flatMap(({ values, nth }) =>
      values.map((value) => ({
        day: Number.parseInt(String(value), 10) % 7,
        which: typeof value === "string" ? "last" : nth === 0 ? "each" : nth,
      })),
    ),
    isEveryWeekday: weekdays.isWildcard,
  };
}

interface List {
  readonly values: readonly (number | string)[];
  readonly items: readonly Field[];
  readonly isWildcard: boolean;
}

function readShort(text: string, where: string): string {
  const fields = SHORT[text];
  if (fields !== undefined) return fields;
  if (text.startsWith("@every")) {
    throw new TypeError(`${where}: must be like "@every 5s", with s, m, h or d, or give every`);
  }
  throw new TypeError(`${where}: must be one of ${Object.keys(SHORT).join(", ")}, got ${show(text)}`);
}

/** Most items are in many expressions; reading one takes the library 30 microseconds. */
const MOST_KNOWN = 10_000;
const known = new Map<string, Field>();

function readItem(item: string, index: number, place: string): Field {
  const key = `${index} ${item}`;
  const field = known.get(key) ?? parseItem(item, index, place);
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(key, field);
  return field;
}

/** Reads one of the things that a field lists. The library's own messages do not say which field they are about. */
function parseItem(item: string, index: number, place: string): Field {
  const { key, span } = FIELDS[index] as (typeof FIELDS)[number];
  if (RANDOM.test(item)) throw new TypeError(`${place}: "H" is another time in each process; name one`);
  if (item === "") throw new TypeError(`${place}: there is nothing between two commas`);
  const step = Number(/\/(\d+)$/.exec(item)?.[1] ?? 1);
  if (step > span) throw new TypeError(`${place}: a step of ${step} is more than there are`);
  // What it would read as something else: JANFEB as 12, 1#1.5 not before it is asked for a time.
  if (!item.split(/[-/#]/).every((part) => PART.test(part))) {
    throw new TypeError(`${place}: ${show(item)} cannot be read`);
  }
  // What it does not read, or not as what it is: a week that ends on Sunday, each of all days.
  const known = key === "dayOfWeek" ? item.replace(/-(?:SUN|0)(?=\/|$)/, "-7") : item;
  const text = FIELDS.map((_, at) => (at === index ? known.replace(/^\*\/1$/, "*") : "*")).join(" ");
  try {
    const { fields } = parser().parse(text, { tz: "UTC" });
    const { values, isWildcard } = fields[key];
    return { values: [...values], isWildcard, nth: key === "dayOfWeek" ? fields.dayOfWeek.nthDay : 0 };
  } catch (cause) {
    throw new TypeError(`${place}: ${explained((cause as Error).message, item)}`, { cause });
  }
}

/** Loaded when it is needed: with what it needs itself that takes longer than all of honkbun. */
function parser(): typeof CronExpressionParser {
  return (require("cron-parser") as typeof import("cron-parser")).CronExpressionParser;
}

function explained(message: string, item: string): string {
  const bounds = /got (?:value|range) (\S+) expected range (\d+)-(\d+)/.exec(message);
  if (bounds !== null && !bounds[1]?.includes("NaN"))
    return `${bounds[1]} is not from ${bounds[2]} to ${bounds[3]}`;
  const range = /Invalid range: (\S+),/.exec(message);
  if (range !== null) return `${range[1]} begins after it ends`;
  if (message.includes("repeat at every")) return "a step must be 1 or more";
  return `${show(item)} cannot be read`;
}

/** The first wall time after another, both as if they were UTC, that the fields match; null when there is none. */
export function nextWall(fields: CronFields, after: number, days: "either" | "both"): number | null {
  const first = (Math.floor(after / 1_000) + 1) * 1_000;
  let day = Math.floor(first / DAY) * DAY;
  let from = first - day;
  while (day - first <= LONGEST_GAP) {
    const date = new Date(day);
    if (!fields.months.includes(date.getUTCMonth() + 1)) {
      day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
      from = 0;
      continue;
    }
    const time = matchesDay(fields, date, days) ? nextTime(fields, from) : null;
    if (time !== null) return day + time;
    day += DAY;
    from = 0;
  }
  return null;
}

function matchesDay(fields: CronFields, date: Date, days: "either" | "both"): boolean {
  const { isEveryDay, isEveryWeekday } = fields;
  if (isEveryDay && isEveryWeekday) return true;
  const day = date.getUTCDate();
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  const isDay = fields.days.includes(day) || (fields.isLastDay && day === lastDay);
  const isWeekday = fields.weekdays.some(
    ({ day: weekday, which }) =>
      weekday === date.getUTCDay() &&
      (which === "each" || (which === "last" ? day + 7 > lastDay : Math.ceil(day / 7) === which)),
  );
  if (days === "both") return (isEveryDay || isDay) && (isEveryWeekday || isWeekday);
  if (isEveryDay) return isWeekday;
  if (isEveryWeekday) return isDay;
  return isDay || isWeekday;
}

/** The first time of a day from another on that matches, in milliseconds from its start. */
function nextTime({ hours, minutes, seconds }: CronFields, from: number): number | null {
  const [hour, minute, second] = [
    Math.floor(from / 3_600_000),
    Math.floor(from / 60_000) % 60,
    (from / 1_000) % 60,
  ];
  const time = (h: number, m: number, s: number): number => ((h * 60 + m) * 60 + s) * 1_000;
  const [firstMinute, firstSecond] = [minutes[0] as number, seconds[0] as number];
  for (const h of hours) {
    if (h < hour) continue;
    if (h > hour) return time(h, firstMinute, firstSecond);
    for (const m of minutes) {
      if (m < minute) continue;
      if (m > minute) return time(h, m, firstSecond);
      const s = seconds.find((one) => one >= second);
      if (s !== undefined) return time(h, m, s);
    }
  }
  return null;
}
