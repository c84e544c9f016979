import { describe, expect, test } from "bun:test";

import { BusyError, ClaimLostError } from "../../src/index.ts";
import { busy, drain, failNext, killWorker, loseClaims, testDatabase } from "../../src/testing/index.ts";
import { eventually } from "../support/eventually.ts";

const turns = async (): Promise<void> => {
  for (let n = 0; n < 10; n++) await new Promise((resolve) => setImmediate(resolve));
};

describe("failNext", () => {
  test("fails the next attempt of the queue, once for each call, without calling the handler", async () => {
    using db = testDatabase();
    let calls = 0;
    const task = db.task("t", { backoff: { base: 0 } }, () => ++calls);
    const other = db.task("other", {}, () => "fine");
    task.enqueue();
    other.enqueue();
    failNext(task.queue, new Error("first"));
    failNext(task.queue, "second");
    const ran = await drain(db);
    expect(ran.filter(({ queue }) => queue === "t")).toMatchObject([
      { outcome: "retried", error: new Error("first") },
      { outcome: "retried", error: "second" },
      { outcome: "completed", result: 1 },
    ]);
    expect(ran.find(({ queue }) => queue === "other")).toMatchObject({ outcome: "completed" });
  });

  test("refuses what is no queue", () => {
    using db = testDatabase();
    expect(() => failNext(db.task("t", {}) as never, 1)).toThrow(
      "failNext: queue must be a queue (of a task: task.queue)",
    );
  });
});

describe("loseClaims", () => {
  test.each([false, true])("takes jobs away from whoever has claimed them (file: %p)", async (file) => {
    using db = testDatabase({ file });
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2]);
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const runs: string[] = [];
    const signals: AbortSignal[] = [];
    await using worker = queue.work(async (job) => {
      runs.push(`${job.payload}.${job.attempt}`);
      signals.push(job.signal);
      if (job.payload === 1 && job.attempt === 1) await gates[0]?.promise;
    });
    await eventually(() => runs.length === 1, "the first one runs");
    const [batched] = queue.claimBatch(1);
    expect(loseClaims(db)).toBe(2);
    expect(signals[0]?.aborted).toBe(true);
    expect(signals[0]?.reason).toBeInstanceOf(ClaimLostError);
    expect(() => batched?.ack()).toThrow(ClaimLostError);
    await turns();
    gates[0]?.resolve();
    await eventually(() => runs.length === 3, "both are run again");
    expect(runs.toSorted()).toEqual(["1.1", "1.2", "2.2"]);
    await worker.stop();
    expect(errors).toMatchObject([{ code: "HONKBUN_CLAIM_LOST" }]);
    expect(queue).toBeEmpty();
  });

  test("of one queue leaves the others alone", () => {
    using db = testDatabase();
    const [one, two] = [db.queue("one"), db.queue("two")];
    one.enqueue(1);
    two.enqueue(2);
    const [, second] = [one.claimBatch(1), two.claimBatch(1)];
    expect(loseClaims(one)).toBe(1);
    second[0]?.ack();
    expect(loseClaims(two)).toBe(0);
    expect(() => loseClaims(5 as never)).toThrow(TypeError);
  });
});

describe("killWorker", () => {
  test.each([false, true])(
    "leaves its jobs to others, with the attempt used, and writes nothing (file: %p)",
    async (file) => {
      using db = testDatabase({ file });
      const queue = db.queue<number>("q", { maxAttempts: 2 });
      const gate = Promise.withResolvers<void>();
      let runs = 0;
      const worker = queue.work(
        async (job) => {
          runs++;
          await gate.promise;
          expect(() => job.ack()).toThrow(ClaimLostError);
        },
        { concurrency: 2 },
      );
      queue.enqueueMany([1, 2, 3]);
      await eventually(() => runs === 2, "two are run");
      killWorker(worker);
      await worker.stopped;
      gate.resolve();
      await turns();
      expect(queue.counts()).toMatchObject({ processing: 2, ready: 1 });
      const ran = await drain(queue, { handlers: { q: (job) => job.attempt } });
      expect(ran.map(({ id, result }) => [id, result]).toSorted()).toEqual([
        [1, 2],
        [2, 2],
        [3, 1],
      ]);
      expect(queue).toBeEmpty();
    },
  );

  test("leaves what had just ended unwritten", async () => {
    using db = testDatabase();
    const queue = db.queue<number>("q");
    queue.enqueue(1);
    const ended = Promise.withResolvers<void>();
    const worker = queue.work(() => ended.resolve());
    await ended.promise; // its ack is to be written in the next turn
    killWorker(worker);
    await turns();
    expect(await drain(queue, { handlers: { q: (job) => job.attempt } })).toMatchObject([{ result: 2 }]);
  });

  test("buries a job whose last attempt it was", async () => {
    using db = testDatabase();
    const queue = db.queue("q", { maxAttempts: 1 });
    queue.enqueue(1);
    let runs = 0;
    const worker = queue.work(() => {
      runs++;
      return new Promise<never>(() => {});
    });
    await eventually(() => runs === 1, "it runs");
    killWorker(worker);
    expect(await drain(queue, { handlers: { q: () => runs++ } })).toEqual([]);
    expect(runs).toBe(1);
    expect(queue.dead.list()).toMatchObject([{ id: 1 }]);
  });

  test("refuses what is no worker", () => {
    using db = testDatabase();
    expect(() => killWorker(db.scheduler.start() as never)).toThrow(
      "worker must be what work() has returned",
    );
  });
});

describe("busy", () => {
  test("holds the write lock for so long", async () => {
    using db = testDatabase({ file: true });
    using impatient = (await import("../../src/index.ts")).open(db.sqlite.filename, { busyTimeout: 20 });
    const queue = db.queue("q");
    const start = performance.now();
    await busy(db, 200);
    expect(() => impatient.queue("q").enqueue(1)).toThrow(BusyError);
    const soon = queue.enqueueAsync(2);
    queue.enqueue(3); // waits until it is free
    expect(performance.now() - start).toBeGreaterThanOrEqual(190);
    expect(await soon).toBeGreaterThan(0);
    expect(queue).toHaveEnqueued(undefined, { times: 2 });
  });

  test("refuses a database that nobody else can lock, and what is no duration", async () => {
    using db = testDatabase();
    await expect(busy(db, 10)).rejects.toThrow("make it by testDatabase({ file: true })");
    await expect(busy(db, -1)).rejects.toThrow(RangeError);
    await expect(busy(5 as never, 1)).rejects.toThrow(TypeError);
    const closed = testDatabase({ file: true });
    closed.close();
    await expect(busy(closed, 1)).rejects.toThrow("busy: this honkbun handle is closed");
  });
});
