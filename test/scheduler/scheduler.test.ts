import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, open, type Running } from "../../src/index.ts";
import { JumpingHonkbun } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Honker } from "../support/honker.ts";

const START = new Date("2026-03-02T10:00:00Z");
const MINUTE = 60_000;
const HOUR = 3_600_000;
const WAKE = { safetyInterval: false, mode: "watch" } as const;

function turns(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function fresh(file = false): JumpingHonkbun {
  return new JumpingHonkbun({ file, now: START });
}

/** For when the jobs of a queue are, in order. */
function dueTimes(db: Honkbun, queue = "q"): string[] {
  const rows = db.sqlite
    .query<{ due: number }, [string]>("SELECT due FROM _honker_live WHERE queue = ? ORDER BY id")
    .all(queue);
  return rows.map(({ due }) => new Date(due).toISOString().slice(11, 19));
}

function next(db: Honkbun, name: string): string | undefined {
  return db.scheduler
    .list()
    .find((one) => one.name === name)
    ?.nextFireAt?.toISOString();
}

/** Resolves when the scheduler that was started leads. */
async function leading(db: Honkbun, name = "honkbun-scheduler"): Promise<void> {
  await eventually(() => db.locks.list().some((lock) => lock.name === name), "the scheduler leads");
  await turns(10);
}

/** Moves the clock in steps that a running process would see, and lets what is due be fired. */
async function pass(db: JumpingHonkbun, milliseconds: number, step = 1_000): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += step) {
    db.clock.advance(Math.min(step, milliseconds - passed));
    await settled(db);
  }
}

/** Resolves when nothing is due any more. */
async function settled(db: JumpingHonkbun): Promise<void> {
  const due = "SELECT count(*) AS n FROM _honkbun_schedules WHERE enabled = 1 AND next_fire_at <= ?";
  await eventually(
    () => db.sqlite.query<{ n: number }, [number]>(due).get(db.clock.now)?.n === 0,
    "all that is due is fired",
  );
}

describe("a schedule", () => {
  test("adds a job at each of its boundaries, due at the boundary", async () => {
    using db = fresh();
    db.scheduler.add("s", { cron: "*/2 * * * *", timezone: "UTC", queue: "q", payload: { n: 1 } });
    await using _ = db.scheduler.start();
    await leading(db);
    expect(next(db, "s")).toBe("2026-03-02T10:02:00.000Z");
    db.clock.advance(2 * MINUTE - 1);
    await turns(20);
    expect(dueTimes(db)).toEqual([]);
    db.clock.advance(1);
    await settled(db);
    db.clock.advance(2 * MINUTE);
    await settled(db);
    expect(dueTimes(db)).toEqual(["10:02:00", "10:04:00"]);
    expect(db.queue("q").claimBatch(1)[0]?.payload).toEqual({ n: 1 });
    expect(next(db, "s")).toBe("2026-03-02T10:06:00.000Z");
  });

  test("with every begins when it is added, or at startAt, and does not drift", async () => {
    using db = fresh();
    db.clock.advance(123);
    db.scheduler.add("s", { every: "10s", queue: "q" });
    db.scheduler.add("t", { every: "10s", startAt: db.clock.now + 3_000, queue: "t" });
    await using _ = db.scheduler.start();
    await leading(db);
    await pass(db, 100_000, 1_700);
    expect(dueTimes(db)).toEqual(
      Array.from({ length: 10 }, (_, n) =>
        new Date(START.getTime() + 10_000 * (n + 1)).toISOString().slice(11, 19),
      ),
    );
    expect(dueTimes(db, "t")).toHaveLength(10);
    expect(next(db, "s")).toBe("2026-03-02T10:01:50.123Z");
    expect(next(db, "t")).toBe("2026-03-02T10:01:43.123Z");
  });

  test("fires neither before startAt nor after endAt, and is then over", async () => {
    using db = fresh();
    const { now } = db.clock;
    db.scheduler.add("s", {
      cron: "* * * * *",
      startAt: now + 2 * MINUTE,
      endAt: now + 4 * MINUTE,
      queue: "q",
    });
    db.scheduler.add("t", { every: "1m", endAt: new Date(now + 90_000), queue: "t" });
    await using _ = db.scheduler.start();
    await leading(db);
    for (let n = 0; n < 6; n++) {
      db.clock.advance("1m");
      await settled(db);
    }
    expect(dueTimes(db)).toEqual(["10:02:00", "10:03:00", "10:04:00"]);
    expect(dueTimes(db, "t")).toEqual(["10:01:00"]);
    expect(db.scheduler.list()).toEqual([
      { name: "s", nextFireAt: null, enabled: true },
      { name: "t", nextFireAt: null, enabled: true },
    ]);
    expect(db.scheduler.next("s", 5)).toEqual([]);
  });

  test("puts each run off by a random time up to jitter", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1s", jitter: "500ms", queue: "q" });
    await using _ = db.scheduler.start();
    await leading(db);
    await pass(db, 40_000);
    const rows = db.sqlite.query<{ due: number }, []>("SELECT due FROM _honker_live ORDER BY id").all();
    const late = rows.map(({ due }, n) => due - START.getTime() - (n + 1) * 1_000);
    expect(late).toHaveLength(40);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThanOrEqual(500);
    expect(new Set(late).size).toBeGreaterThan(20);
  });

  test("gives its jobs what it says: priority, attempts, expiry, group, unique key", async () => {
    using db = fresh(true);
    db.scheduler.add("s", {
      every: "1m",
      queue: db.queue("q", { maxAttempts: 7 }),
      priority: 5,
      expiresIn: "90s",
      group: "g",
      uniqueKey: "k",
    });
    db.scheduler.add("t", { every: "1m", queue: "t", maxAttempts: 2 });
    await using _ = db.scheduler.start();
    await leading(db);
    db.clock.advance("1m");
    await settled(db);
    db.clock.advance("1m"); // the first one has not ended: there is no second
    await settled(db);
    const job = db.sqlite.query("SELECT * FROM _honker_live WHERE queue = 'q'").all();
    expect(job).toMatchObject([
      {
        priority: 5,
        max_attempts: 7,
        group_key: "g",
        unique_key: "k",
        expires_at: START.getTime() / 1_000 + 150,
      },
    ]);
    db.queue("q").claimBatch(1)[0]?.ack();
    db.clock.advance("1m");
    await settled(db);
    expect(dueTimes(db)).toEqual(["10:03:00"]);
    expect(db.sqlite.query("SELECT max_attempts AS n FROM _honker_live WHERE queue = 't'").get()).toEqual({
      n: 2,
    });
  });

  test("runs a task with its input, by db.work alone", async () => {
    using db = fresh();
    const seen: unknown[] = [];
    const task = db.task(
      "report",
      { input: z.object({ kind: z.string().default("short") }), priority: 3, maxAttempts: 9 },
      (input, job) => void seen.push([input, job.priority, job.maxAttempts]),
    );
    db.scheduler.add("s", { every: "1m", task, input: {} });
    await using worker = db.work();
    await leading(db);
    db.clock.advance("1m");
    await eventually(() => seen.length === 1, "it runs");
    expect(seen).toEqual([[{ kind: "short" }, 3, 9]]);
    expect(() =>
      db.scheduler.add("t", { every: "1m", task, input: { kind: 5 as unknown as string } }),
    ).toThrow("scheduler.add: t");
    // @ts-expect-error a task's schedule is typed by the task's input
    expect(() => db.scheduler.add("t", { every: "1m", task, input: { kind: 5 } })).toThrow("kind");
    const mail = db.queue<{ to: string }>("mail");
    db.scheduler.add("u", { every: "1m", queue: mail, payload: { to: "x" } });
    // @ts-expect-error as is a queue's by the payload
    db.scheduler.add("u", { every: "1m", queue: mail, payload: {} });
    await worker.stop();
    await eventually(() => db.locks.list().length === 0, "the scheduler has stopped, too");
  });

  test("is not run by db.work with scheduler: false", async () => {
    using db = fresh();
    db.task("t", {}, () => {});
    db.scheduler.add("s", { every: "1m", queue: "q" });
    await using _ = db.work({ scheduler: false });
    await turns(30);
    expect(db.locks.list()).toEqual([]);
    expect(() => db.work({ scheduler: "yes" as unknown as boolean })).toThrow("work: scheduler");
  });
});

describe("scheduler.add", () => {
  test("changes nothing when it says the same again, and does not even write", async () => {
    using db = fresh(true);
    using other = open(db.sqlite.filename);
    const add = (): void => {
      db.scheduler.add("s", { every: "1m", queue: "q", payload: { a: 1 }, missed: { all: 3 }, group: "g" });
      db.scheduler.add("t", { cron: "0 2 * * *", timezone: "Europe/Berlin", queue: "q" });
    };
    add();
    const before = db.scheduler.list();
    const version = (): unknown => other.sqlite.query("PRAGMA data_version").get();
    const seen = version();
    db.clock.advance("40s");
    add();
    expect(db.scheduler.list()).toEqual(before);
    expect(version()).toEqual(seen);
  });

  test("applies what has changed, and keeps the next boundary unless the time itself has", () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q", payload: 1 });
    db.clock.advance("40s");
    db.scheduler.add("s", { every: "1m", queue: "r", payload: 2, priority: 3 });
    expect(next(db, "s")).toBe("2026-03-02T10:01:00.000Z");
    expect(db.sqlite.query("SELECT queue, payload, priority FROM _honkbun_schedules").get()).toEqual({
      queue: "r",
      payload: "2",
      priority: 3,
    });
    db.scheduler.add("s", { every: "2m", queue: "r" });
    expect(next(db, "s")).toBe("2026-03-02T10:02:40.000Z");
    db.scheduler.add("s", { cron: "0 12 * * *", timezone: "UTC", queue: "r" });
    expect(next(db, "s")).toBe("2026-03-02T12:00:00.000Z");
    db.scheduler.add("s", { cron: "0 12 * * *", timezone: "Asia/Tokyo", queue: "r" });
    expect(next(db, "s")).toBe("2026-03-03T03:00:00.000Z");
    db.scheduler.add("s", { cron: "@every 5s", queue: "r" });
    expect(next(db, "s")).toBe("2026-03-02T10:00:45.000Z");
    db.scheduler.add("s", { cron: "@every 5s", queue: "r", startAt: START.getTime() + HOUR });
    expect(next(db, "s")).toBe("2026-03-02T11:00:00.000Z");
  });

  test("loses no boundary that has come and is not fired yet when something else has changed", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q", payload: 1 });
    db.clock.advance("65s");
    db.scheduler.add("s", { every: "1m", queue: "q", payload: 2 });
    await using _ = db.scheduler.start();
    await settled(db);
    expect(dueTimes(db)).toEqual(["10:01:00"]);
  });

  test("leaves a paused schedule paused, unless it says otherwise", () => {
    using db = fresh();
    const add = (enabled?: boolean): void => db.scheduler.add("s", { every: "1m", queue: "q", enabled });
    add();
    db.scheduler.pause("s");
    add();
    expect(db.scheduler.list()).toEqual([{ name: "s", nextFireAt: null, enabled: false }]);
    db.clock.advance("5m");
    add(true);
    expect(next(db, "s")).toBe("2026-03-02T10:06:00.000Z");
    add(false);
    expect(db.scheduler.list()[0]?.enabled).toBe(false);
  });

  test("joins db.transaction", () => {
    using db = fresh(true);
    expect(() =>
      db.transaction(() => {
        db.scheduler.add("s", { every: "1m", queue: "q" });
        expect(db.scheduler.list()).toHaveLength(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(db.scheduler.list()).toEqual([]);
  });

  test("refuses what makes no sense, says what and where, and writes nothing", () => {
    using db = fresh();
    const strict = db.queue("q", { schema: z.object({ to: z.string() }) });
    const bad =
      (options: object): (() => void) =>
      () =>
        db.scheduler.add("s", { every: "1m", queue: "q", ...options } as never);
    const cases: readonly [object, string][] = [
      [{ every: undefined }, "scheduler.add: s: give cron or every"],
      [{ cron: "* * * * *" }, "scheduler.add: s: give cron or every, not both"],
      [
        { every: undefined, cron: "61 * * * *" },
        'scheduler.add: s: cron "61 * * * *": minute (field 1): 61 is not from 0 to 59',
      ],
      [
        { every: undefined, cron: "* * * * *", timezone: "Mars" },
        "scheduler.add: s: timezone must be the name of a time zone",
      ],
      [{ timezone: "UTC" }, "scheduler.add: s: timezone needs cron"],
      [{ every: 50 }, "scheduler.add: s: every must be at least 100 ms, got 50"],
      [{ every: "soon" }, "scheduler.add: s: every must be milliseconds or text"],
      [{ queue: undefined }, "scheduler.add: s: give task or queue"],
      [{ queue: 5 }, "scheduler.add: s: queue: must be a queue of db.queue, or a queue's name, got 5"],
      [{ queue: "" }, "scheduler.add: s: queue"],
      [
        { queue: undefined, task: "report" },
        'scheduler.add: s: task: must be a task of db.task, got "report"',
      ],
      [{ task: db.task("x", {}) }, "scheduler.add: s: give task or queue, not both"],
      [{ input: 1 }, "scheduler.add: s: input is for task"],
      [{ queue: strict, payload: {} }, "scheduler.add: s to q: the payload does not fit its schema"],
      [{ missed: "all" }, "scheduler.add: s: missed: must be"],
      [{ missed: { all: 0 } }, "scheduler.add: s: missed"],
      [{ startAt: "tomorrow" }, "scheduler.add: s: startAt must be a Date or epoch milliseconds"],
      [{ startAt: 10, endAt: 5 }, "scheduler.add: s: endAt must not be before startAt"],
      [{ endAt: new Date(0) }, "scheduler.add: s: it would never fire"],
      [{ priority: 500 }, "scheduler.add: s: priority must be an integer from -100 to 100"],
      [{ uniqueKey: "" }, "scheduler.add: s: uniqueKey must be a non-empty string"],
      [{ jitter: -1 }, "scheduler.add: s: jitter must be a duration of 0 or more"],
      [{ often: 1 }, "scheduler.add: s: unknown option often"],
    ];
    for (const [options, message] of cases) expect(bad(options)).toThrow(message);
    expect(() => db.scheduler.add("", { every: "1m", queue: "q" })).toThrow("scheduler.add: name must be");
    expect(db.scheduler.list()).toEqual([]);
    for (const call of ["pause", "resume", "trigger", "next"] as const) {
      expect(() => db.scheduler[call]("nobody")).toThrow(
        new RangeError(`scheduler.${call}: there is no schedule "nobody"`),
      );
    }
    db.scheduler.remove("nobody");
  });
});

describe("boundaries that nobody was there to see", () => {
  /** Adds a schedule, starts the scheduler `late` after that, and tells what it has fired once it leads. */
  async function after(late: number, options: object): Promise<string[]> {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q", ...options } as never);
    db.clock.advance(late);
    await using _ = db.scheduler.start();
    await settled(db);
    return dueTimes(db);
  }

  test("are skipped", async () => {
    expect(await after(10 * MINUTE + 30_000, {})).toEqual([]);
    expect(await after(10 * MINUTE + 30_000, { missed: "skip" })).toEqual([]);
  });

  test("are made up for by one run, where the latest is wanted", async () => {
    expect(await after(10 * MINUTE + 30_000, { missed: "latest" })).toEqual(["10:10:00"]);
    expect(await after(10 * MINUTE + 3_000, { missed: "latest" })).toEqual(["10:10:00"]);
    expect(await after(30_000, { missed: "latest" })).toEqual([]);
  });

  test("are made up for by one run each, up to a number", async () => {
    expect(await after(10 * MINUTE + 30_000, { missed: { all: 3 } })).toEqual([
      "10:08:00",
      "10:09:00",
      "10:10:00",
    ]);
    expect(await after(2 * MINUTE + 30_000, { missed: { all: 100 } })).toEqual(["10:01:00", "10:02:00"]);
    expect(await after(10 * MINUTE + 3_000, { missed: { all: 2 } })).toEqual([
      "10:08:00",
      "10:09:00",
      "10:10:00",
    ]);
  });

  test("were not missed when they are but a few seconds old", async () => {
    expect(await after(MINUTE + 9_000, {})).toEqual(["10:01:00"]);
    expect(await after(MINUTE + 11_000, {})).toEqual([]);
    expect(await after(23_000, { every: "2s" })).toEqual([
      "10:00:14",
      "10:00:16",
      "10:00:18",
      "10:00:20",
      "10:00:22",
    ]);
  });

  test("are found at once however many there are", async () => {
    const daily = { every: undefined, cron: "* * * * * *", timezone: "UTC" };
    expect(await after(400 * 24 * HOUR, { ...daily, missed: { all: 2 } })).toHaveLength(2 + 11);
    expect(await after(400 * 24 * HOUR, { every: undefined, cron: "0 0 29 2 *", missed: "latest" })).toEqual(
      [],
    );
    expect(
      await after(800 * 24 * HOUR, {
        every: undefined,
        cron: "0 5 29 2 *",
        timezone: "UTC",
        missed: "latest",
      }),
    ).toEqual(["05:00:00"]);
  });
});

describe("a clock that jumps", () => {
  test("forwards neither floods nor stalls", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1s", queue: "q" });
    db.scheduler.add("t", { every: "1s", queue: "t", missed: "latest" });
    await using _ = db.scheduler.start();
    await leading(db);
    await pass(db, 3_000);
    db.clock.advance("8h");
    await settled(db);
    const count = dueTimes(db).length;
    expect(count).toBeLessThanOrEqual(3 + 11);
    expect(dueTimes(db, "t").length).toBeLessThanOrEqual(3 + 11);
    await pass(db, 5_000);
    expect(dueTimes(db)).toHaveLength(count + 5);
  });

  test("backwards stalls nothing that goes by the time that passes, and fires no date twice", async () => {
    using db = fresh();
    db.scheduler.add("every", { every: "1m", queue: "every" });
    db.scheduler.add("minute", { cron: "* * * * *", queue: "minute" });
    db.scheduler.add("daily", { cron: "5 10 * * *", timezone: "UTC", queue: "daily" });
    await using _ = db.scheduler.start();
    await leading(db);
    for (let n = 0; n < 10; n++) {
      db.clock.advance("1m");
      await settled(db);
    }
    expect(dueTimes(db, "daily")).toEqual(["10:05:00"]);
    db.clock.set(new Date(db.clock.now - 2 * HOUR));
    await eventually(() => next(db, "minute") === "2026-03-02T08:11:00.000Z", "it is noticed");
    expect(next(db, "every")).toBe("2026-03-02T08:11:00.000Z");
    for (let n = 0; n < 130; n++) {
      db.clock.advance("1m");
      await settled(db);
    }
    expect(dueTimes(db, "minute")).toHaveLength(140);
    expect(dueTimes(db, "every")).toHaveLength(140);
    expect(dueTimes(db, "daily")).toEqual(["10:05:00"]);
  });

  test("backwards while nobody looks is noticed by who leads next", async () => {
    using db = fresh(true);
    db.scheduler.add("s", { every: "1m", queue: "q" });
    {
      await using _ = db.scheduler.start();
      await leading(db);
      db.clock.advance("1m");
      await settled(db);
    }
    db.clock.set(new Date(db.clock.now - 5 * HOUR));
    await using _ = db.scheduler.start();
    await eventually(() => next(db, "s") === "2026-03-02T05:02:00.000Z", "it is noticed");
  });
});

describe("scheduler.pause", () => {
  test("lets nothing fire, and resume fires nothing of what has passed", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q", missed: { all: 100 } });
    await using _ = db.scheduler.start();
    await leading(db);
    db.scheduler.pause("s");
    db.clock.advance("150s");
    await turns(20);
    db.scheduler.resume("s");
    await turns(20);
    expect(dueTimes(db)).toEqual([]);
    expect(next(db, "s")).toBe("2026-03-02T10:03:00.000Z");
    db.scheduler.resume("s");
    db.clock.advance("30s");
    await settled(db);
    expect(dueTimes(db)).toEqual(["10:03:00"]);
  });
});

describe("scheduler.trigger", () => {
  test("adds the job now, beside the boundaries, also of a paused schedule", () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q", payload: 7, jitter: "1h" });
    db.scheduler.pause("s");
    db.clock.advance("10s");
    const id = db.scheduler.trigger("s");
    expect(db.queue("q").get(id)).toMatchObject({
      payload: 7,
      state: "ready",
      runAt: new Date(db.clock.now),
    });
    db.scheduler.add("k", { every: "1m", queue: "q", uniqueKey: "k" });
    const first = db.scheduler.trigger("k");
    expect(db.scheduler.trigger("k")).toBe(first);
  });
});

describe("scheduler.next", () => {
  test("tells the boundaries to come, over a change of the clocks", () => {
    using db = new JumpingHonkbun({ now: new Date("2026-03-27T12:00:00Z") });
    db.scheduler.add("s", { cron: "30 2 * * *", timezone: "Europe/Berlin", queue: "q" });
    expect(db.scheduler.next("s", 4).map((date) => date.toISOString())).toEqual([
      "2026-03-28T01:30:00.000Z",
      "2026-03-29T01:00:00.000Z",
      "2026-03-30T00:30:00.000Z",
      "2026-03-31T00:30:00.000Z",
    ]);
    expect(db.scheduler.next("s")).toHaveLength(1);
    db.scheduler.pause("s");
    expect(db.scheduler.next("s")).toHaveLength(1);
    expect(() => db.scheduler.next("s", -1)).toThrow(
      "scheduler.next: count must be an integer from 0 to 10000",
    );
  });
});

describe("scheduler.remove", () => {
  test("ends a schedule, and leaves its jobs", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q" });
    await using _ = db.scheduler.start();
    await leading(db);
    db.clock.advance("1m");
    await settled(db);
    db.scheduler.remove("s");
    expect(db.scheduler.list()).toEqual([]);
    db.clock.advance("5m");
    await turns(20);
    expect(dueTimes(db)).toEqual(["10:01:00"]);
  });
});

describe("honker's schedules", () => {
  function addHonkers(db: JumpingHonkbun, name: string, expression: string, at: number): void {
    db.sqlite.run(
      `INSERT INTO _honker_scheduler_tasks (name, queue, cron_expr, payload, priority, expires_s, next_fire_at, max_attempts)
       VALUES (?, 'q', ?, '{"a":1}', 2, 60, ?, 5)`,
      [name, expression, at / 1_000],
    );
  }

  test("are listed, paused, resumed, triggered and removed like any other", () => {
    using db = fresh();
    addHonkers(db, "theirs", "@every 30s", START.getTime() + 30_000);
    db.scheduler.add("a", { every: "1m", queue: "q" });
    expect(db.scheduler.list().map(({ name }) => name)).toEqual(["a", "theirs"]);
    expect(db.scheduler.next("theirs", 2)).toEqual(
      [30, 60].map((s) => new Date(START.getTime() + s * 1_000)),
    );
    db.scheduler.pause("theirs");
    db.clock.advance("100s");
    db.scheduler.resume("theirs");
    expect(next(db, "theirs")).toBe("2026-03-02T10:02:00.000Z");
    expect(db.queue("q").get(db.scheduler.trigger("theirs"))).toMatchObject({
      payload: { a: 1 },
      priority: 2,
      maxAttempts: 5,
    });
    expect(() => db.scheduler.add("theirs", { every: "1m", queue: "q" })).toThrow(
      '"theirs" is a schedule of honker\'s',
    );
    db.scheduler.remove("theirs");
    expect(db.scheduler.list().map(({ name }) => name)).toEqual(["a"]);
  });

  test("are fired under honker's own lock, and not while honker's scheduler leads", async () => {
    using db = fresh(true);
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    addHonkers(db, "theirs", "@every 30s", START.getTime() + 30_000);
    db.scheduler.add("ours", { every: "30s", queue: "ours" });
    honker.lock("honker-scheduler", "their leader", 600);
    await using _ = db.scheduler.start();
    await leading(db);
    db.clock.advance("30s");
    await settled(db);
    await turns(20);
    expect(dueTimes(db, "ours")).toHaveLength(1);
    expect(dueTimes(db)).toEqual([]);
    honker.unlock("honker-scheduler", "their leader");
    await eventually(() => dueTimes(db).length === 1, "it is fired");
    expect(db.locks.list().map(({ name }) => name)).toEqual(
      ["honker-scheduler", "honkbun-scheduler"].toSorted(),
    );
    expect(db.sqlite.query("SELECT * FROM _honker_live WHERE queue = 'q'").all()).toMatchObject([
      {
        payload: '{"a":1}',
        priority: 2,
        max_attempts: 5,
        run_at: db.clock.now / 1_000,
        expires_at: db.clock.now / 1_000 + 60,
      },
    ]);
    expect(next(db, "theirs")).toBe("2026-03-02T10:01:00.000Z");
  });

  test("are made up for after a rest, and at most 64 times, as honker does", async () => {
    using db = fresh();
    addHonkers(db, "few", "@every 1m", START.getTime());
    addHonkers(db, "many", "@every 1s", START.getTime());
    db.sqlite.run("UPDATE _honker_scheduler_tasks SET queue = name");
    db.clock.advance("5m");
    await using _ = db.scheduler.start();
    await eventually(() => next(db, "many") === "2026-03-02T10:05:01.000Z", "all is fired");
    expect(dueTimes(db, "few")).toHaveLength(6);
    expect(dueTimes(db, "many")).toHaveLength(64);
  });

  test("need both the day of the month and the weekday, as honker reads them", () => {
    using db = fresh();
    addHonkers(db, "theirs", "0 0 1-7 * 1", START.getTime());
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    db.scheduler.add("ours", { cron: "0 0 * * 1#1", timezone: zone, queue: "q" });
    expect(db.scheduler.next("theirs", 3)).toEqual(db.scheduler.next("ours", 3));
  });

  test("that cannot be read are reported once, and hold up no others", async () => {
    using db = fresh(true);
    const errors: string[] = [];
    using _errors = db.on(
      "error",
      ({ error, where }) => void errors.push(`${where}: ${(error as Error).message}`),
    );
    addHonkers(db, "bad", "what?", START.getTime());
    addHonkers(db, "good", "@every 30s", START.getTime() + 30_000);
    db.scheduler.add("ours", { every: "30s", queue: "ours" });
    db.scheduler.add("broken", { cron: "* * * * *", queue: "ours" });
    db.sqlite.run(
      "UPDATE _honkbun_schedules SET timezone = 'Mars/North', next_fire_at = 0 WHERE name = 'broken'",
    );
    await using _ = db.scheduler.start();
    await leading(db, "honker-scheduler");
    db.clock.advance("30s");
    await eventually(
      () => dueTimes(db).length === 1 && dueTimes(db, "ours").length === 1,
      "the others are fired",
    );
    db.clock.advance("30s");
    await eventually(
      () => dueTimes(db).length === 2 && dueTimes(db, "ours").length === 2,
      "the others are fired",
    );
    expect(errors.toSorted()).toEqual([
      expect.stringContaining("honker's schedule bad: honker's schedule: cron \"what?\""),
      expect.stringContaining("schedule broken: "),
    ]);
    db.sqlite.run("UPDATE _honker_scheduler_tasks SET cron_expr = '@every 10s' WHERE name = 'bad'");
    await eventually(() => dueTimes(db).length > 2, "it is mended");
  });
});

describe("a scheduler that leads", () => {
  test("is followed at once by one that stands by, when it stops, ends or is closed", async () => {
    using db = fresh(true);
    db.scheduler.add("s", { every: "1m", queue: "q" });
    const ends: ((other: Honkbun, running: Running) => unknown)[] = [
      (_, running) => running.stop(),
      (other) => other.close(),
      (other) => other.shutdown(),
    ];
    let count = 0;
    for (const end of ends) {
      using other = open(db.sqlite.filename, { clock: () => db.clock.now, wake: WAKE });
      const first = other.scheduler.start();
      await leading(db);
      const [leader] = db.locks.list();
      await using _ = db.scheduler.start();
      await turns(20);
      expect(db.locks.list()).toMatchObject([{ token: leader?.token }]);
      await end(other, first);
      await within(first.stopped, "it has stopped");
      await eventually(() => (db.locks.list()[0]?.token ?? 0) > (leader?.token ?? 0), "the other one leads");
      db.clock.advance("1m");
      await settled(db);
      expect(dueTimes(db)).toHaveLength(++count);
    }
  });

  test("fires nothing once its lock is another's, though it does not know it yet", async () => {
    using db = fresh(true);
    db.scheduler.add("s", { every: "1m", queue: "q" });
    await using _ = db.scheduler.start();
    await leading(db);
    db.transaction((tx) => {
      tx.run("UPDATE _honker_locks SET owner = 'thief', expires_at = expires_at + 600");
      db.clock.advance("1m"); // due in the same turn
    });
    await turns(30);
    expect(dueTimes(db)).toEqual([]);
    db.sqlite.run("DELETE FROM _honker_locks");
    await eventually(() => dueTimes(db).length === 1, "it leads again");
  });

  test("writes nothing, and needs no lock, while there is nothing to fire", async () => {
    using db = fresh(true);
    await using _ = db.scheduler.start();
    await turns(20);
    expect(db.locks.list()).toEqual([]);
    db.scheduler.add("s", { every: "1m", queue: "q" });
    await leading(db);
    db.scheduler.pause("s");
    await eventually(() => db.locks.list().length === 0, "it leads no more");
    db.scheduler.resume("s");
    await leading(db);
  });

  test("wakes on a schedule that another process adds", async () => {
    using db = fresh(true);
    using other = open(db.sqlite.filename, { clock: () => db.clock.now });
    db.scheduler.add("late", { every: "1h", queue: "q" });
    await using _ = db.scheduler.start();
    await leading(db);
    other.scheduler.add("soon", { every: "1s", queue: "q" });
    await turns(20);
    db.clock.advance("1s");
    await eventually(() => dueTimes(db).length === 1, "it is fired");
  });

  test("ends by its signal, and stops once", async () => {
    using db = fresh();
    db.scheduler.add("s", { every: "1m", queue: "q" });
    const abort = new AbortController();
    const running = db.scheduler.start({ signal: abort.signal });
    await leading(db);
    abort.abort();
    await within(running.stopped, "it has stopped");
    await running.stop();
    await running.stop({ timeout: "1s" });
    expect(db.locks.list()).toEqual([]);
    await within(db.scheduler.start({ signal: AbortSignal.abort() }).stopped, "it has never begun");
    expect(() => db.scheduler.start({ often: 1 } as object)).toThrow("scheduler.start: unknown option often");
  });

  test("reports what fails, and goes on", async () => {
    using folder = new Folder();
    let now = START.getTime();
    using db = open(folder.file(), { clock: () => now, wake: WAKE });
    const errors: unknown[] = [];
    using _errors = db.on("error", ({ where }) => void errors.push(where));
    db.scheduler.add("s", { every: "1s", queue: "q" });
    db.sqlite.run(
      "CREATE TRIGGER full BEFORE INSERT ON _honker_live BEGIN SELECT raise(ABORT, 'disk full'); END",
    );
    await using _ = db.scheduler.start();
    await leading(db);
    now += 1_000;
    await eventually(() => errors.includes("scheduler"), "it fails");
    db.sqlite.run("DROP TRIGGER full");
    await eventually(() => dueTimes(db).length === 1, "it is fired after all");
  });
});
