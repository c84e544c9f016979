import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, jest, test } from "bun:test";

import { BusyError, open } from "../../src/index.ts";
import { busy, drain, perform, testDatabase } from "../../src/testing/index.ts";
import { turn } from "../../src/testing/turn.ts";

const START = new Date("2030-01-01T00:00:00Z");

// Under them no timer fires, and `performance.now()` stands still.
describe("under fake timers", () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  test.each([false, true])("drain runs jobs, retries and schedules (file: %p)", async (file) => {
    using db = testDatabase({ now: START, file });
    let n = 0;
    const task = db.task("t", { backoff: { base: "1m" } }, async () => {
      await turn();
      if (n++ < 2) throw new Error("down");
    });
    const nightly = db.task("nightly", {}, () => {});
    db.scheduler.add("s", { cron: "30 0 * * *", timezone: "UTC", task: nightly });
    const run = task.enqueue();
    expect(await drain(db, { until: "1h" })).toHaveLength(4);
    expect(await run.result()).toBeUndefined();
  });

  test.each([false, true])("workers, consumers and groups go on (file: %p)", async (file) => {
    using db = testDatabase({ now: START, file });
    const events = db.stream<number>("events");
    let handled = 0;
    await using _ = events.process("c", () => void handled++);
    await using __ = events.group("g").work(() => void handled++);
    await using ___ = db.queue<number>("q").work(({ payload }) => void events.publish(payload));
    db.queue("q").enqueueMany([1, 2, 3]);
    await drain(db);
    expect(handled).toBe(6);
  });

  test("perform, locks and rate limits go by the clock of the database", async () => {
    using db = testDatabase({ now: START });
    const limit = db.rateLimit("r", { limit: 1, per: "1m" });
    const task = db.task("t", {}, () => db.withLock("l", () => limit.wait()));
    await perform(task, undefined);
    const second = perform(task, undefined);
    for (let n = 0; n < 10; n++) await turn();
    expect(Bun.peek.status(second)).toBe("pending");
    db.clock.advance("1m");
    await second;
  });

  test("what is written in the background blocks nobody, and is tried again when time is moved", async () => {
    using db = testDatabase({ file: true });
    using other = new Database(db.sqlite.filename);
    other.run("BEGIN IMMEDIATE");
    const id = db.queue("q").enqueueAsync(1);
    await turn();
    await turn();
    expect(Bun.peek.status(id)).toBe("pending");
    other.run("ROLLBACK");
    jest.advanceTimersByTime(100);
    expect(await id).toBe(1);
  });

  test("the write lock is waited for no longer than busyTimeout all the same", async () => {
    using db = testDatabase({ file: true });
    using impatient = open(db.sqlite.filename, { busyTimeout: 20 });
    await busy(db, 300);
    expect(() => impatient.queue("q").enqueue(1)).toThrow(BusyError);
    const later = impatient.queue("q").enqueueAsync(2); // blocks nobody
    await turn();
    db.queue("q").enqueue(3); // waits until it is free
    jest.advanceTimersByTime(100);
    expect(await later).toBeGreaterThan(0);
  });
});
