import { describe, expect, test } from "bun:test";

import { ClaimLostError, WaitTimeoutError } from "../../src/index.ts";
import { testDatabase } from "../../src/testing/index.ts";
import { eventually } from "../support/eventually.ts";

const START = new Date("2030-01-01T00:00:00Z");

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("clock", () => {
  test("fires schedules at each of their boundaries, in order, though no scheduler runs", () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("hourly", { cron: "0 * * * *", timezone: "UTC", queue: "q", payload: "hourly" });
    db.scheduler.add("often", { every: "25m", queue: "q", payload: "often" });
    db.clock.advance("2h");
    const jobs = db.queue<string>("q").claimBatch(10);
    expect(jobs.map(({ payload, enqueuedAt }) => [payload, enqueuedAt.toISOString().slice(11, 16)])).toEqual([
      ["often", "00:25"],
      ["often", "00:50"],
      ["hourly", "01:00"],
      ["often", "01:15"],
      ["often", "01:40"],
      ["hourly", "02:00"],
    ]);
  });

  test("fires what a scheduler that runs would fire, and fires it once", async () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("s", { every: "1h", queue: "q", missed: "skip" });
    await using _ = db.scheduler.start();
    await eventually(() => db.locks.list().length === 1, "it leads");
    db.clock.advance("3h");
    for (let n = 0; n < 50; n++) await turn();
    expect(db.queue("q")).toHaveEnqueued(undefined, { times: 3 });
    expect(db.scheduler.list()).toMatchObject([{ nextFireAt: new Date("2030-01-01T04:00:00Z") }]);
  });

  test("fires honker's schedules", () => {
    using db = testDatabase({ now: START });
    db.sqlite.run(
      "INSERT INTO _honker_scheduler_tasks (name, queue, cron_expr, payload, next_fire_at) VALUES ('h', 'q', '@every 60s', '1', ?)",
      [START.getTime() / 1_000 + 60],
    );
    db.clock.advance("3m");
    expect(db.queue("q")).toHaveEnqueued(1, { times: 3 });
  });

  test("fires no schedule that is paused, and none before its boundary", () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("a", { every: "1h", queue: "q" });
    db.scheduler.add("b", { every: "1h", queue: "q" });
    db.scheduler.pause("b");
    db.clock.advance(3_599_999);
    expect(db.queue("q")).toBeEmpty();
    db.clock.advance(1);
    expect(db.queue("q")).toHaveEnqueued(undefined, { times: 1 });
  });

  test("follows a calendar over a change to daylight-saving time", () => {
    using db = testDatabase({ now: new Date("2026-03-27T12:00:00Z") });
    db.scheduler.add("s", { cron: "30 2 * * *", timezone: "Europe/Berlin", queue: "q" });
    db.clock.set(new Date("2026-03-31T12:00:00Z"));
    const times = db
      .queue("q")
      .claimBatch(9)
      .map(({ enqueuedAt }) => enqueuedAt.toISOString());
    expect(times).toEqual([
      "2026-03-28T01:30:00.000Z",
      "2026-03-29T01:00:00.000Z", // 2:30 is left out that day; 3:00 is when it is over
      "2026-03-30T00:30:00.000Z",
      "2026-03-31T00:30:00.000Z",
    ]);
  });

  test("set back lets schedules by elapsed time go on, and repeats none by the calendar", () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("every", { every: "1h", queue: "every" });
    db.scheduler.add("cron", { cron: "0 1 * * *", timezone: "UTC", queue: "cron" });
    db.clock.advance("2h");
    db.clock.set(new Date("2030-01-01T00:30:00Z"));
    db.clock.advance("1h");
    expect(db.queue("every")).toHaveEnqueued(undefined, { times: 3 });
    expect(db.queue("cron")).toHaveEnqueued(undefined, { times: 1 });
  });

  test("lets the claims of claimBatch expire", () => {
    using db = testDatabase({ now: START });
    const queue = db.queue("q", { visibilityTimeout: "30s" });
    queue.enqueue(1);
    const [job] = queue.claimBatch(1);
    db.clock.advance("30s");
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance("1s");
    expect(queue.claimBatch(1)).toMatchObject([{ attempt: 2 }]);
    expect(() => job?.ack()).toThrow(ClaimLostError);
  });

  test.each([false, true])("leaves a running job to the worker that runs it (file: %p)", async (file) => {
    using db = testDatabase({ now: START, file });
    const queue = db.queue("q");
    queue.enqueue(1);
    const gate = Promise.withResolvers<void>();
    let runs = 0;
    await using worker = queue.work(
      async () => {
        runs++;
        await gate.promise;
      },
      { concurrency: 2 },
    );
    await eventually(() => runs === 1, "it runs");
    db.clock.advance("1h");
    expect(queue.claimBatch(1)).toEqual([]);
    queue.enqueue(2); // the worker claims, and sweeps
    await eventually(() => runs === 2, "the other one runs");
    gate.resolve();
    await eventually(() => worker.running === 0, "both have ended");
    expect(runs).toBe(2);
    expect(queue.counts()).toMatchObject({ ready: 0, processing: 0, dead: 0 });
  });

  test("lets locks expire that are held for longer", () => {
    using db = testDatabase({ now: START });
    db.tryLock("l", { ttl: "30s" });
    db.clock.advance("29s");
    expect(db.tryLock("l")).toBeNull();
    db.clock.advance("1s");
    expect(db.tryLock("l")).not.toBeNull();
  });

  test("moves the windows of rate limits, and lets those go on who wait", async () => {
    using db = testDatabase({ now: START });
    const limit = db.rateLimit("r", { limit: 1, per: "1m" });
    expect(limit.try()).toMatchObject({ allowed: true });
    expect(limit.try()).toMatchObject({ allowed: false });
    const waiting = limit.wait();
    await turn();
    await turn();
    db.clock.advance("1m");
    await waiting;
    expect(limit.try()).toMatchObject({ allowed: false });
  });

  test("lets what waits for a time end in the order of those times", async () => {
    using db = testDatabase({ now: START });
    db.tryLock("l", { ttl: "1h" });
    const ended: string[] = [];
    const wait = (timeout: "30s" | "20s" | "10s"): Promise<unknown> =>
      db.lock("l", { timeout }).catch((error) => {
        expect(error).toBeInstanceOf(WaitTimeoutError);
        ended.push(timeout);
      });
    for (const isAtOnce of [false, true]) {
      const all = [wait("30s"), wait("10s"), wait("20s")];
      if (!isAtOnce) await turn();
      db.clock.advance("1m");
      await Promise.all(all);
      expect(ended.splice(0)).toEqual(["10s", "20s", "30s"]);
    }
    const queue = db.queue("q", { keepResult: true });
    const id = queue.enqueue(1);
    const results = [3_000, 1_000, 2_000].map((timeout) =>
      queue.waitResult(id, { timeout }).catch(() => ended.push(String(timeout))),
    );
    db.clock.advance("1m"); // before they have looked at the job
    await Promise.all(results);
    expect(ended).toEqual(["1000", "2000", "3000"]);
  });

  test("wakes a worker for what has come due, and that in order", async () => {
    using db = testDatabase({ now: START });
    const queue = db.queue<string>("q");
    const order: string[] = [];
    await using _ = queue.work(({ payload }) => void order.push(payload));
    for (const [payload, delay] of [
      ["c", "3s"],
      ["a", "1s"],
      ["b", "2s"],
    ] as const)
      queue.enqueue(payload, { delay });
    for (let n = 0; n < 20; n++) await turn();
    db.clock.advance("5s");
    await eventually(() => order.length === 3, "all have run");
    expect(order).toEqual(["a", "b", "c"]);
  });

  test("may be moved inside a transaction: what it fires is undone with it", () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("s", { every: "1h", queue: "q" });
    expect(() =>
      db.transaction(() => {
        db.clock.advance("1h");
        expect(db.queue("q").counts().ready).toBe(1);
        throw new Error("undone");
      }),
    ).toThrow("undone");
    expect(db.queue("q").counts().ready).toBe(0);
    db.clock.advance(0);
    expect(db.queue("q").counts().ready).toBe(1);
  });

  test("refuses what is no time, and stays where it is", () => {
    using db = testDatabase({ now: START });
    expect(() => db.clock.advance("soon" as never)).toThrow(TypeError);
    expect(() => db.clock.advance(-1)).toThrow(RangeError);
    expect(() => db.clock.set(new Date(Number.NaN))).toThrow(RangeError);
    expect(db.clock.now).toBe(START.getTime());
  });

  test("says so when it would have to fire a schedule for minutes", () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("s", { every: 100, queue: "q" });
    expect(() => db.clock.advance("1d")).toThrow(/more than 100000 boundaries .* move it before/);
  }, 60_000);

  test("stands alone once the database is closed", () => {
    const db = testDatabase({ now: START });
    db.close();
    db.clock.advance("1s");
    expect(db.clock.now).toBe(START.getTime() + 1_000);
  });
});
