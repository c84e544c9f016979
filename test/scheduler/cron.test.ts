import { describe, expect, test } from "bun:test";

import { CronExpressionParser } from "cron-parser";

import { type Cron, parseCron } from "../../src/scheduler/cron.ts";

const MINUTE = 60_000;
const HOUR = 3_600_000;
const DAY = 86_400_000;

function cron(expression: string, timezone = "UTC"): Cron {
  return parseCron(expression, { timezone }, "scheduler.add");
}

function all({ next }: Cron, from: number, to: number): number[] {
  const found: number[] = [];
  for (let at = next(from); at !== null && at < to; at = next(at)) found.push(at);
  return found;
}

/** As text in UTC, without seconds. */
function show(times: readonly number[]): string[] {
  return times.map((at) => new Date(at).toISOString().slice(0, 16));
}

/** What the clocks of a zone show, as if it were UTC. */
function wallReader(timezone: string): (at: number) => number {
  const format = new Intl.DateTimeFormat("en-CA", {
    timeZone: timezone,
    hourCycle: "h23",
    dateStyle: "short",
    timeStyle: "medium",
  });
  return (at) => Date.parse(`${format.format(at).replace(", ", "T")}Z`);
}

/** Three zones, and one whose clocks change at midnight, each with a day before each of its changes in 2026. */
const CHANGES = {
  "Europe/Berlin": ["2026-03-28", "2026-10-24"],
  "America/New_York": ["2026-03-07", "2026-10-31"],
  "Australia/Lord_Howe": ["2026-10-03", "2026-04-04"],
  "America/Santiago": ["2026-09-05", "2026-04-04"],
} as const;

describe("a daily time", () => {
  for (const zone of Object.keys(CHANGES)) {
    test(`comes once on each day of a year in ${zone}, whichever it is`, () => {
      const wall = wallReader(zone);
      for (let half = 0; half < 48; half++) {
        const { next } = cron(`${(half % 2) * 30} ${Math.floor(half / 2)} * * *`, zone);
        let at = next(Date.UTC(2026, 0, 2)) as number;
        for (let n = 0; n < 365; n++) {
          const following = next(at) as number;
          const [day, nextDay] = [at, following].map((one) => Math.floor(wall(one) / DAY));
          expect(nextDay).toBe((day as number) + 1);
          at = following;
        }
      }
    });
  }
});

describe("every minute", () => {
  for (const [zone, days] of Object.entries(CHANGES)) {
    test(`neither stops nor doubles over the changes in ${zone}`, () => {
      for (const day of days) {
        const from = Date.parse(`${day}T00:00:00Z`);
        const times = all(cron("* * * * *", zone), from - 1, from + 3 * DAY);
        expect(times).toEqual(Array.from({ length: 3 * 1_440 }, (_, n) => from + n * MINUTE));
      }
    });
  }
});

describe("a time that the clocks skip", () => {
  test("comes when they do, once for all that are skipped together", () => {
    const day = (expression: string, zone: string, date: string): string[] =>
      show(
        all(
          cron(expression, zone),
          Date.parse(`${date}T00:00Z`) - 6 * HOUR,
          Date.parse(`${date}T00:00Z`) + 18 * HOUR,
        ),
      );
    expect(day("30 2 * * *", "Europe/Berlin", "2026-03-29")).toEqual(["2026-03-29T01:00"]);
    expect(day("*/15 2 * * *", "Europe/Berlin", "2026-03-29")).toEqual(["2026-03-29T01:00"]);
    expect(day("0 2,3 * * *", "Europe/Berlin", "2026-03-29")).toEqual(["2026-03-29T01:00"]);
    expect(day("30 2,3 * * *", "Europe/Berlin", "2026-03-29")).toEqual([
      "2026-03-29T01:00",
      "2026-03-29T01:30",
    ]);
    expect(day("30 2 * * *", "America/New_York", "2026-03-08")).toEqual(["2026-03-08T07:00"]);
    expect(
      show(all(cron("15 2 * * *", "Australia/Lord_Howe"), Date.UTC(2026, 9, 3), Date.UTC(2026, 9, 4))),
    ).toEqual(["2026-10-03T15:30"]);
    expect(
      show(all(cron("0 0 * * *", "America/Santiago"), Date.UTC(2026, 8, 5, 12), Date.UTC(2026, 8, 7))),
    ).toEqual(["2026-09-06T04:00"]);
  });

  test("is not missed where a whole day is skipped", () => {
    const { next } = cron("0 12 * * *", "Pacific/Apia");
    const times = [next(Date.UTC(2011, 11, 29, 0))];
    for (let n = 0; n < 2; n++) times.push(next(times.at(-1) as number));
    expect(show(times as number[])).toEqual(["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"]);
  });
});

describe("a time that comes twice", () => {
  test("counts the first time only, unless the expression is for every hour", () => {
    const night = (expression: string): string[] =>
      show(
        all(cron(expression, "Europe/Berlin"), Date.UTC(2026, 9, 24, 22, 59), Date.UTC(2026, 9, 25, 2, 1)),
      );
    expect(night("30 2 * * *")).toEqual(["2026-10-25T00:30"]);
    expect(night("30 1-3 * * *")).toEqual(["2026-10-24T23:30", "2026-10-25T00:30"]);
    expect(night("0 * * * *")).toEqual([
      "2026-10-24T23:00",
      "2026-10-25T00:00",
      "2026-10-25T01:00",
      "2026-10-25T02:00",
    ]);
    expect(night("0 0-23 * * *")).toEqual(night("0 * * * *"));
    expect(night("0 0-23/1 * * *")).toEqual(night("0 * * * *"));
  });

  test("counts the first time only when one asks in the middle of it", () => {
    const { next } = cron("30 2 * * *", "Europe/Berlin");
    for (let at = Date.UTC(2026, 9, 25, 0, 30); at < Date.UTC(2026, 9, 25, 12); at += 7 * MINUTE) {
      expect(show([next(at) as number])).toEqual(["2026-10-26T01:30"]);
    }
  });
});

describe("cron", () => {
  test("is the rule, taken literally, for random expressions over the changes of many zones", () => {
    const random = seeded(7);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
    const zones = {
      ...CHANGES,
      "Asia/Kathmandu": ["2026-05-01"],
      "Africa/Casablanca": ["2026-02-14", "2026-03-21"],
    };
    for (const [zone, days] of Object.entries(zones)) {
      const wall = wallReader(zone);
      for (const date of days) {
        const from = Date.parse(`${date}T00:00:00Z`);
        // A day before and two after: what the clocks show at each minute.
        const shown = new Map<number, number>();
        for (let at = from - DAY; at < from + 2 * DAY; at += MINUTE) shown.set(at, wall(at));
        for (let n = 0; n < 25; n++) {
          const hour = pick(["*", "2", "0", "1-3", "*/2", "0,23", "*", "*/1"]);
          const expression = `${pick(["0", "30", "*/15", "5,35", "*", "59"])} ${hour} * * ${pick(["*", "*", "*", "SUN", "SAT,SUN"])}`;
          const field = CronExpressionParser.parse(expression, { tz: "UTC" }).fields;
          const matches = (time: number): boolean => {
            const at = new Date(time);
            return (
              (field.minute.values as readonly number[]).includes(at.getUTCMinutes()) &&
              (field.hour.values as readonly number[]).includes(at.getUTCHours()) &&
              (field.dayOfWeek.isWildcard ||
                (field.dayOfWeek.values as readonly number[]).includes(at.getUTCDay()))
            );
          };
          const isEveryHour = field.hour.values.length === 24;
          const expected: number[] = [];
          const seen = new Set<number>();
          let previous = wall(from - DAY - MINUTE);
          for (const [at, time] of shown) {
            let fires = matches(time) && (isEveryHour || !seen.has(time));
            if (!isEveryHour)
              for (let gone = previous + MINUTE; gone < time; gone += MINUTE) fires ||= matches(gone);
            if (fires) expected.push(at);
            seen.add(time);
            previous = time;
          }
          const found = all(cron(expression, zone), from - DAY - 1, from + 2 * DAY);
          expect({ zone, expression, times: show(found) }).toEqual({
            zone,
            expression,
            times: show(expected),
          });
        }
      }
    }
  });

  test("is what cron-parser says where clocks do not change", () => {
    const random = seeded(3);
    const number = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
    const field = (low: number, high: number): string => {
      const [a, b] = [number(low, high), number(low, high)].toSorted((x, y) => x - y) as [number, number];
      return ["*", "*", `${a}`, `${a}-${b}`, `*/${number(2, high - low)}`, `${a},${b}`][
        number(0, 5)
      ] as string;
    };
    let compared = 0;
    while (compared < 300) {
      const expression = [
        field(0, 59),
        field(0, 59),
        field(0, 23),
        random() < 0.2 ? "L" : field(1, 28),
        field(1, 12),
        random() < 0.1 ? "5L" : random() < 0.1 ? "2#3" : field(0, 7),
      ].join(" ");
      const start = Date.UTC(2026, number(0, 11), number(1, 28), number(0, 23), number(0, 59));
      let theirs: ReturnType<typeof CronExpressionParser.parse>;
      try {
        theirs = CronExpressionParser.parse(expression, { tz: "UTC", currentDate: new Date(start) });
      } catch {
        continue; // a list that names a value twice
      }
      compared++;
      const { next } = cron(expression);
      let at = start;
      for (let step = 0; step < 3; step++) {
        at = next(at) as number;
        expect(`${expression} ${new Date(at).toISOString()}`).toBe(
          `${expression} ${theirs.next().toISOString()}`,
        );
      }
    }
  });

  test("reads names, signs and abbreviations", () => {
    const from = Date.UTC(2026, 0, 31, 12);
    const first = (expression: string): string => show([cron(expression).next(from) as number])[0] as string;
    expect(first("0 0 * * 7")).toBe("2026-02-01T00:00");
    expect(first("0 0 * * sun")).toBe("2026-02-01T00:00");
    expect(first("0 0 ? MAR Mon-Fri")).toBe("2026-03-02T00:00");
    expect(first("0 0 L * *")).toBe("2026-02-28T00:00");
    expect(first("0 0 * * FRIL")).toBe("2026-02-27T00:00");
    expect(first("0 0 * * 1#2")).toBe("2026-02-09T00:00");
    expect(first("0 0 * * 3#2,5L")).toBe("2026-02-11T00:00");
    expect(first("0 0 * * 0,7,SUN,5-7")).toBe("2026-02-01T00:00");
    expect(first("50,0-10,5 1,1 * * *")).toBe("2026-02-01T01:00");
    expect(first(" 0\t0  1-7   * MON ")).toBe("2026-02-01T00:00"); // either
    expect(first("0 0 * * SAT-SUN")).toBe("2026-02-01T00:00");
    expect(first("0 0 * * MON-SUN/7")).toBe("2026-02-02T00:00");
    expect(first("0 0 */1 * MON")).toBe("2026-02-02T00:00"); // each day is no day in particular
    expect(first("@daily")).toBe("2026-02-01T00:00");
    expect(first("@midnight")).toBe("2026-02-01T00:00");
    expect(first("@Weekly")).toBe("2026-02-01T00:00");
    expect(first("@monthly")).toBe("2026-02-01T00:00");
    expect(first("@yearly")).toBe("2027-01-01T00:00");
    expect(first("@hourly")).toBe("2026-01-31T13:00");
    expect(cron("*/10 * * * * *").next(from)).toBe(from + 10_000);
    expect(parseCron("0 0 1-7 * MON", { timezone: "UTC", days: "both" }, "").next(from)).toBe(
      Date.UTC(2026, 1, 2),
    );
  });

  test("gives the first time strictly after another, at whole seconds", () => {
    const { next } = cron("0 * * * *");
    expect(next(Date.UTC(2026, 0, 1, 5))).toBe(Date.UTC(2026, 0, 1, 6));
    expect(next(Date.UTC(2026, 0, 1, 5) - 1)).toBe(Date.UTC(2026, 0, 1, 5));
    expect(next(Date.UTC(2026, 0, 1, 5) - 0.5)).toBe(Date.UTC(2026, 0, 1, 5));
  });

  test("finds days that are rare", () => {
    const leap = cron("0 0 29 2 *");
    expect(show([leap.next(Date.UTC(2096, 1, 29)) as number])).toEqual(["2104-02-29T00:00"]);
    const rare = parseCron("0 0 29 2 MON", { timezone: "UTC", days: "both" }, "");
    expect(show([rare.next(Date.UTC(2072, 2, 1)) as number])).toEqual(["2112-02-29T00:00"]); // 2100 has none
  });

  test("goes by the system's zone unless another is named", () => {
    expect(parseCron("0 0 * * *", {}, "").timezone).toBe(Intl.DateTimeFormat().resolvedOptions().timeZone);
    expect(show([cron("0 0 * * *", "Asia/Kathmandu").next(Date.UTC(2026, 0, 1)) as number])).toEqual([
      "2026-01-01T18:15",
    ]);
  });

  test("says what is wrong with an expression, and where", () => {
    const message = (expression: unknown, timezone?: string): string => {
      try {
        parseCron(expression as string, { timezone }, "scheduler.add: x");
      } catch (error) {
        return (error as Error).message;
      }
      return "nothing";
    };
    const wrong: readonly [string, string][] = [
      ["61 * * * *", "minute (field 1): 61 is not from 0 to 59"],
      ["0 24 * * *", "hour (field 2): 24 is not from 0 to 23"],
      ["0 0 1-40 * *", "day of month (field 3): 1-40 is not from 1 to 31"],
      ["0 0 * FOO *", 'month (field 4): "FOO" cannot be read'],
      ["0 0 * * 8", "weekday (field 5): 8 is not from 0 to 7"],
      ["60 0 0 * * *", "second (field 1): 60 is not from 0 to 59"],
      ["0 10-5 * * *", "hour (field 2): 10-5 begins after it ends"],
      ["*/0 * * * *", "minute (field 1): a step must be 1 or more"],
      ["*/90 * * * *", "minute (field 1): a step of 90 is more than there are"],
      ["1,,2 * * * *", "minute (field 1): there is nothing between two commas"],
      ["1,99 * * * *", "minute (field 1): 99 is not from 0 to 59"],
      ["H * * * *", 'minute (field 1): "H" is another time in each process'],
      ["0 0 1 JANFEB *", 'month (field 4): "JANFEB" cannot be read'],
      ["0 0 * * 1#1.5", 'weekday (field 5): "1#1.5" cannot be read'],
      ["0 0 * * 1#9", 'weekday (field 5): "1#9" cannot be read'],
      ["1.5 * * * *", 'minute (field 1): "1.5" cannot be read'],
      ["0 0 30 2 *", "never fires"],
      ["0 0 31 4,6 *", "never fires"],
      ["", "got 0 fields"],
      ["* * * *", "got 4 fields"],
      ["* * * * * * *", "got 7 fields"],
      ["@reboot", "must be one of @yearly"],
      ["@every 5x", 'must be like "@every 5s"'],
    ];
    for (const [expression, what] of wrong) {
      expect(message(expression)).toStartWith(`scheduler.add: x: cron ${JSON.stringify(expression)}: `);
      expect(message(expression)).toContain(what);
    }
    expect(message(5)).toBe('scheduler.add: x: cron must be an expression like "0 2 * * *", got 5');
    expect(message("* * * * *", "Europe/Berlinn")).toBe(
      'scheduler.add: x: timezone must be the name of a time zone, like "Europe/Berlin", got "Europe/Berlinn"',
    );
    expect(message("0 0 29 2 *")).toBe("nothing");
  });
});

/** Numbers from 0 to 1 that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}
