import { describe, expect, test } from "bun:test";

import type { Queue } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

function complete(queue: Queue<number>, from: number, count: number): void {
  queue.enqueueMany(numbers(count).map((n) => from + n));
  for (const job of queue.claimBatch(count)) job.ack({ result: job.payload * 2 });
}
const kept = (queue: Queue<number>, state: "completed" | "dead"): unknown[] =>
  queue.list({ state, limit: 5_000 }).map(({ payload }) => payload);

describe("keepCompleted", () => {
  test("keeps completed jobs with their results and times, whoever reads them", async () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue<number>("q");
    queue.setLimits({ keepCompleted: {} });
    queue.enqueue(7, { delay: "1s" });
    db.clock.advance("2s");
    const [job] = queue.claimBatch(1);
    db.clock.advance("3s");
    job?.ack({ result: "seven" });
    expect(queue.list({ state: "completed" })).toMatchObject([
      {
        payload: 7,
        state: "completed",
        result: "seven",
        attempts: 1,
        enqueuedAt: new Date("2030-01-01T00:00:00Z"),
        runAt: new Date("2030-01-01T00:00:01Z"),
        startedAt: new Date("2030-01-01T00:00:02Z"),
        completedAt: new Date("2030-01-01T00:00:05Z"),
      },
    ]);
    expect(await within(queue.waitResult(job?.id ?? 0), "its result")).toBe("seven");
    db.clock.advance("365d");
    queue.claimBatch(1);
    expect(queue.counts().completed).toBe(1);
    expect(queue.get(job?.id ?? 0)?.result).toBe("seven");
  });

  test("holds for workers, batches, and results that are waited for before", async () => {
    using db = database({ file: true });
    const queue = db.queue<number, number>("q");
    queue.setLimits({ keepCompleted: { maxAge: "1h" } });
    const id = queue.enqueue(1);
    const result = queue.waitResult(id);
    const worker = queue.work((job) => job.payload + 1);
    expect(await within(result, "its result")).toBe(2);
    await worker.stop();
    queue.enqueueMany([2, 3]);
    queue.ackBatch(queue.claimBatch(2));
    expect(kept(queue as never, "completed")).toEqual([1, 2, 3]);
  });

  test("keeps so many, the newest, at any moment", () => {
    using db = database();
    const queue = db.queue<number>("q");
    complete(queue, 0, 3); // before: not kept
    queue.setLimits({ keepCompleted: { maxCount: 2 } });
    for (const [from, expected] of [
      [10, [10]],
      [20, [10, 20]],
      [30, [20, 30]],
    ] as const) {
      complete(queue, from, 1);
      expect(kept(queue, "completed")).toEqual([...expected]);
    }
    complete(queue, 40, 5);
    expect(kept(queue, "completed")).toEqual([43, 44]);
    expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_results").get()).toEqual({ n: 2 });
    complete(db.queue("other"), 0, 3);
    expect(kept(queue, "completed")).toEqual([43, 44]);
  });

  test("keeps them for so long, and an idle worker sees to it", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.setLimits({ keepCompleted: { maxAge: "10s" } });
    complete(queue, 0, 2);
    db.clock.advance("6s");
    complete(queue, 10, 2);
    const worker = queue.work(() => {});
    db.clock.advance("4s");
    expect(kept(queue, "completed")).toEqual([0, 1, 10, 11]);
    db.clock.advance(1);
    await eventually(() => queue.counts().completed === 2, "the old ones go");
    db.clock.advance("6s");
    await eventually(() => queue.counts().completed === 0, "all go");
    expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_results").get()).toEqual({ n: 0 });
    await worker.stop();
  });

  test("is changed for what is there: less is kept from then on, and nothing after null", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.setLimits({ keepCompleted: {} });
    complete(queue, 0, 1_300);
    queue.setLimits({ keepCompleted: { maxCount: 1_000 } });
    const worker = queue.work(() => {});
    await eventually(() => queue.counts().completed === 1_000, "the surplus goes");
    queue.setLimits({ keepCompleted: null });
    await eventually(() => queue.counts().completed === 0, "all go, in portions");
    await worker.stop();
    complete(queue, 0, 1);
    expect(queue.counts().completed).toBe(0);
  });

  test("goes beside keepResult: what either of them keeps is kept", () => {
    using db = database();
    const queue = db.queue<number>("q", { keepResult: "1m" });
    queue.setLimits({ keepCompleted: { maxCount: 1 } });
    complete(queue, 0, 3);
    expect(kept(queue, "completed")).toEqual([0, 1, 2]);
    db.clock.advance("61s");
    complete(queue, 10, 1);
    db.clock.advance("61s");
    queue.claimBatch(1);
    expect(kept(queue, "completed")).toEqual([10]);
    expect(queue.list({ state: "completed" })).toMatchObject([{ result: 20 }]);
  });
});

describe("keepDead", () => {
  function bury(queue: Queue<number>, from: number, count: number): void {
    queue.enqueueMany(numbers(count).map((n) => from + n));
    for (const job of queue.claimBatch(count)) job.fail("no");
  }

  test("keeps so many, the newest, with their errors", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.setLimits({ keepDead: { maxCount: 2 } });
    bury(queue, 0, 5);
    expect(kept(queue, "dead")).toEqual([3, 4]);
    db.clock.advance("1s");
    bury(queue, 10, 1);
    expect(queue.dead.list().map(({ payload }) => payload)).toEqual([4, 10]);
    expect(db.sqlite.query("SELECT count(*) AS n FROM _honkbun_errors").get()).toEqual({ n: 2 });
    queue.setLimits({ keepDead: null });
    bury(queue, 20, 3);
    expect(kept(queue, "dead")).toEqual([4, 10, 20, 21, 22]);
  });

  test("keeps them for so long, those that honker has buried, too", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.setLimits({ keepDead: { maxAge: "10s" } });
    bury(queue, 0, 2);
    const now = Math.floor(db.clock.now / 1_000);
    db.sqlite.run(`INSERT INTO _honker_dead (id, queue, payload, died_at) VALUES (99, 'q', '99', ${now})`);
    const worker = queue.work(() => {});
    db.clock.advance("9s");
    expect(kept(queue, "dead")).toEqual([0, 1, 99]);
    db.clock.advance("2s");
    await eventually(() => queue.counts().dead === 0, "all go");
    await worker.stop();
  });

  test("is worked off in portions", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    bury(queue, 0, 1_200);
    const worker = queue.work(() => {});
    queue.setLimits({ keepDead: { maxCount: 10 } });
    await eventually(() => queue.counts().dead === 10, "all but ten go");
    expect(kept(queue, "dead").at(-1)).toBe(1_199);
    await worker.stop();
  });
});
