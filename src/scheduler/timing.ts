import { type Cron, parseCron } from "./cron.ts";

/** What says when a schedule fires. Times in epoch milliseconds, durations in milliseconds. */
export interface TimingTerms {
  readonly cron: string | null;
  readonly timezone: string | null;
  readonly every: number | null;
  /** One of the boundaries of `every`. */
  readonly anchor: number | null;
  readonly start_at: number | null;
  readonly end_at: number | null;
}

/** The boundaries of a schedule. */
export interface Timing {
  /** The first strictly after a time; null when there is none any more. */
  next(after: number): number | null;
  /** Whether it goes by the time that passes, so that it must not stand still when the clock is set back. */
  readonly isByElapsedTime: boolean;
}

/** Expressions are parsed once; so many are remembered. */
const MOST_PARSED = 10_000;
const parsed = new Map<string, Timing>();

export function timingOf(terms: TimingTerms): Timing {
  const { cron, every, anchor, start_at: start, end_at: end } = terms;
  const inner =
    cron === null
      ? everyTiming(every as number, anchor as number)
      : cronTiming(cron, terms.timezone ?? undefined, "either");
  return {
    isByElapsedTime: inner.isByElapsedTime,
    next: (after) => {
      const next = inner.next(start === null ? after : Math.max(after, start - 1));
      return next === null || (end !== null && next > end) ? null : next;
    },
  };
}

/** @throws TypeError, RangeError */
export function cronTiming(
  expression: string,
  timezone: string | undefined,
  days: "either" | "both",
  call = "scheduler",
): Timing {
  const key = `${days} ${timezone} ${expression}`;
  const known = parsed.get(key);
  if (known !== undefined) return known;
  const timing = remembering(parseCron(expression, { timezone, days }, call));
  if (parsed.size >= MOST_PARSED) parsed.clear();
  parsed.set(key, timing);
  return timing;
}

export function everyTiming(every: number, anchor: number): Timing {
  return {
    isByElapsedTime: true,
    next: (after) => anchor + (Math.floor((after - anchor) / every) + 1) * every,
  };
}

/** Up to `count` of the last boundaries before `end`, in order; `first`, which is one, is the earliest. */
export function lastBefore(timing: Timing, first: number, end: number, count: number): number[] {
  // Backwards in ever longer steps: there may be millions.
  for (let back = 60_000; ; back *= 4) {
    const from = Math.max(end - back, first);
    const found: number[] = [];
    let next = from === first ? first : timing.next(from);
    while (next !== null && next < end) {
      found.push(next);
      if (found.length > count) found.shift();
      next = timing.next(next);
    }
    if (found.length === count || from === first) return found;
  }
}

/** Many schedules share an expression, and come due together. */
function remembering(cron: Cron): Timing {
  let last: { readonly after: number; readonly next: number | null } | undefined;
  return {
    isByElapsedTime: cron.isByElapsedTime,
    next: (after) => {
      if (last?.after !== after) last = { after, next: cron.next(after) };
      return last.next;
    },
  };
}
