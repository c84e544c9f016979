import { describe, expect, test } from "bun:test";

import type { Honkbun, Queue } from "../../src/index.ts";
import type { TestHonkbun } from "../../src/testing/test-database.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Honker } from "../support/honker.ts";

const G = { group: "g" } as const;
const payloads = (jobs: readonly { readonly payload: unknown }[]): unknown[] =>
  jobs.map(({ payload }) => payload);

function honkerOf(db: TestHonkbun): Honker {
  return new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
}

/** Runs all that is ready, one by one, and says in which order. */
function runAll(queue: Queue<unknown>): unknown[] {
  const order: unknown[] = [];
  for (;;) {
    const [job] = queue.claimBatch(1);
    if (job === undefined) return order;
    order.push(job.payload);
    job.ack();
  }
}

describe("jobs of a group", () => {
  test("run one at a time, in the order in which they were enqueued", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueueMany([1, 2, 3], G);
    expect(queue.counts()).toMatchObject({ ready: 1, blocked: 2 });
    expect(queue.list({ state: "blocked" }).map(({ payload }) => payload)).toEqual([2, 3]);
    for (const n of [1, 2, 3]) {
      const jobs = queue.claimBatch(10);
      expect(payloads(jobs)).toEqual([n]);
      expect(queue.claimBatch(10)).toEqual([]);
      jobs[0]?.ack();
    }
    expect(queue.claimBatch(10)).toEqual([]);
  });

  test("run beside those of other groups, of other queues, and of none", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueueMany(["a1", "a2"], { group: "a" });
    queue.enqueueMany(["b1", "b2"], { group: "b" });
    queue.enqueueMany([1, 2]);
    db.queue("other").enqueue("a1", { group: "a" });
    expect(payloads(queue.claimBatch(10))).toEqual(["a1", "b1", 1, 2]);
    expect(payloads(db.queue("other").claimBatch(10))).toEqual(["a1"]);
  });

  test("pay no heed to their priorities among themselves", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue("first", { ...G, priority: -5 });
    queue.enqueue("second", { ...G, priority: 0 });
    queue.enqueue("third", { ...G, priority: 5 });
    expect(runAll(queue)).toEqual(["first", "second", "third"]);
  });

  test("keep their place while one is retried or snoozed, and go on when it is buried or cancelled", () => {
    using db = database();
    const queue = db.queue("q", { maxAttempts: 2 });
    const ids = queue.enqueueMany([1, 2, 3, 4, 5], G);
    queue.claimBatch(1)[0]?.retry({ delay: "1m" });
    expect(queue.claimBatch(5)).toEqual([]);
    db.clock.advance("1m");
    queue.claimBatch(1)[0]?.snooze("1m");
    expect(queue.claimBatch(5)).toEqual([]);
    db.clock.advance("1m");
    const [last] = queue.claimBatch(5);
    expect(last?.payload).toBe(1);
    last?.retry();
    expect(queue.dead.list()).toHaveLength(1);
    const [second] = queue.claimBatch(5);
    expect(second?.payload).toBe(2);
    second?.fail("no");
    queue.cancel(ids[3] ?? 0); // blocked
    queue.cancel(ids[2] ?? 0); // has its turn
    expect(payloads(queue.claimBatch(5))).toEqual([5]);
  });

  test("go on when a claim expires, with the same job", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueueMany([1, 2], G);
    queue.claimBatch(1);
    db.clock.advance("12s");
    expect(payloads(queue.claimBatch(5))).toEqual([1]);
  });

  test("join when they are due: a delayed one blocks nobody, and comes after those that came before", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue("late", { ...G, delay: "1m" });
    queue.enqueue("later", { ...G, delay: "2m" });
    queue.enqueueMany([1, 2], G);
    expect(queue.counts()).toMatchObject({ ready: 1, blocked: 1, delayed: 2 });
    expect(queue.list({ state: "delayed" }).map(({ payload }) => payload)).toEqual(["late", "later"]);
    const [one] = queue.claimBatch(5);
    expect(one?.payload).toBe(1);
    db.clock.advance("1m");
    expect(queue.claimBatch(5)).toEqual([]); // but by now it has joined
    queue.enqueue(3, G);
    db.clock.advance("1m");
    expect(queue.claimBatch(5)).toEqual([]);
    queue.enqueue(4, G);
    one?.ack();
    expect(runAll(queue)).toEqual([2, "late", 3, "later", 4]);
  });

  test("that are delayed join in the order of their due times when that is noticed late", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue("second", { ...G, delay: "2m" });
    queue.enqueue("third", { ...G, delay: "3m" });
    queue.enqueue("first", { ...G, delay: "1m" });
    db.clock.advance("5m");
    expect(runAll(queue)).toEqual(["first", "second", "third"]);
  });

  test("are woken for when they join, and when their turn comes", async () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    const seen: unknown[] = [];
    const worker = queue.work((job) => void seen.push(job.payload), { concurrency: 3 });
    queue.enqueue("late", { ...G, delay: "1m" });
    queue.enqueueMany([1, 2, 3], G);
    await eventually(() => seen.length === 3, "the others are run");
    db.clock.advance("1m");
    await eventually(() => seen.length === 4, "the late one is run");
    expect(seen).toEqual([1, 2, 3, "late"]);
    await worker.stop();
  });

  test("expire while they are blocked", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue(1, G);
    const id = queue.enqueue(2, { ...G, expiresIn: "10s" });
    queue.enqueue(3, G);
    const [one] = queue.claimBatch(5);
    db.clock.advance("12s");
    queue.claimBatch(5);
    expect(queue.get(id)?.state).toBe("dead");
    one?.ack();
    expect(payloads(queue.claimBatch(5))).toEqual([3]);
  });

  test("are updated and cleared as others, and rolled back with their transaction", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const ids = queue.enqueueMany([1, 2, 3], G);
    expect(queue.update(ids[1] ?? 0, { payload: 22 })).toBe(true);
    expect(() =>
      db.transaction(() => {
        queue.claimBatch(1)[0]?.ack();
        queue.enqueue(4, G);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.counts()).toMatchObject({ ready: 1, blocked: 2 });
    const [job] = queue.claimBatch(1);
    expect(job?.payload).toBe(1);
    expect(queue.clear()).toBe(2);
    job?.ack();
    expect(queue.counts()).toMatchObject({ ready: 0, blocked: 0 });
    queue.enqueue(5, G);
    expect(payloads(queue.claimBatch(1))).toEqual([5]);
  });

  for (const how of ["cancel", "expire", "plain SQL"] as const) {
    test(`go on at once when one that waits for long ends by ${how}`, () => {
      using db = database();
      const queue = db.queue("q");
      const id = queue.enqueue(1, { ...G, expiresIn: "10s" });
      queue.enqueue(2, G);
      queue.claimBatch(1)[0]?.retry({ delay: "1h" });
      if (how === "cancel") queue.cancel(id);
      else if (how === "plain SQL") db.sqlite.run("DELETE FROM _honker_live WHERE id = ?", [id]);
      else db.clock.advance("12s");
      expect(payloads(queue.claimBatch(5))).toEqual([2]);
    });
  }

  test("that are due come before those that are enqueued later, though nobody has claimed meanwhile", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue("delayed", { ...G, delay: "1s" });
    const parent = queue.enqueue("parent");
    queue.enqueue("child", { ...G, after: [parent] });
    db.clock.advance("5s");
    queue.enqueue("enqueued", G);
    queue.claimBatch(1)[0]?.ack();
    queue.pause();
    queue.enqueue("last", G);
    queue.resume();
    const order = runAll(queue);
    expect(order.indexOf("delayed")).toBeLessThan(order.indexOf("enqueued"));
    expect(order.indexOf("child")).toBeLessThan(order.indexOf("last"));
    expect(order.indexOf("enqueued")).toBeLessThan(order.indexOf("last"));
  });

  test("keep their order when hundreds join at once, whatever becomes of their due times", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const count = 250;
    const ids = queue.enqueueMany(
      Array.from({ length: count }, (_, n) => n),
      (n) => ({ ...G, delay: 1 + n }),
    );
    db.clock.advance("1m");
    queue.claimBatch(1)[0]?.snooze(0);
    queue.update(ids[1] ?? 0, { runAt: db.clock.now });
    queue.setLimits({ groupConcurrency: 3 });
    queue.setLimits({ groupConcurrency: 1 });
    expect(runAll(queue as never)).toEqual(Array.from({ length: count }, (_, n) => n));
  });

  test("are given back where they stood", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue("grouped", G);
    db.clock.advance(1);
    queue.enqueue("single");
    db.clock.advance("1m");
    const before = queue.list()[0]?.runAt;
    queue.claimBatch(1)[0]?.snooze(0);
    expect(queue.list()[0]?.runAt).toEqual(before as Date);
    expect(payloads(queue.claimBatch(2))).toEqual(["grouped", "single"]);
  });

  test("come back to their group by dead.retry", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueueMany([1, 2], G);
    queue.claimBatch(1)[0]?.fail("no");
    const [two] = queue.claimBatch(1);
    expect(two?.payload).toBe(2);
    expect(queue.dead.retry("all")).toBe(1);
    expect(queue.claimBatch(5)).toEqual([]);
    queue.enqueue(3, G);
    two?.ack();
    expect(runAll(queue)).toEqual([1, 3]);
  });

  test("let others have their turn within one millisecond, too", () => {
    using db = database();
    const queue = db.queue<number | string>("q");
    queue.enqueueMany(
      Array.from({ length: 100 }, (_, n) => n),
      G,
    );
    queue.claimBatch(1)[0]?.ack();
    queue.enqueue("single");
    expect(runAll(queue as never).slice(0, 2)).toContain("single");
  });

  test("let others have their turn: of a group of many and a later single job, that one is claimed second", () => {
    using db = database({ file: true });
    const queue = db.queue<number | string>("q");
    queue.enqueueMany(
      Array.from({ length: 1_000 }, (_, n) => n),
      G,
    );
    db.clock.advance(10);
    queue.claimBatch(1)[0]?.ack();
    db.clock.advance(10);
    queue.enqueue("single");
    const order: unknown[] = [];
    for (let n = 0; n < 3; n++) {
      db.clock.advance(10);
      const [job] = queue.claimBatch(1);
      order.push(job?.payload);
      db.clock.advance(10);
      job?.ack();
    }
    expect(order.slice(0, 2)).toContain("single");
  });

  test("are acked, failed and cancelled by honker, which sees the first alone", () => {
    using db = database({ file: true });
    using honker = honkerOf(db);
    const queue = db.queue("q");
    const ids = queue.enqueueMany([1, 2, 3, 4, 5], G);
    queue.enqueue("late", { ...G, delay: "1s" });
    db.clock.advance("5s");
    expect(honker.claim("q", "h", 10)).toEqual([ids[0] ?? 0]);
    honker.retry(ids[0] ?? 0, "h", 0);
    expect(honker.claim("q", "h", 10)).toEqual([ids[0] ?? 0]);
    expect(queue.claimBatch(5)).toEqual([]);
    honker.ack(ids[0] ?? 0, "h");
    db.clock.set(new Date(Math.max(db.clock.now, Date.now() + 10_000)));
    const [second] = queue.claimBatch(5);
    expect(second?.payload).toBe(2);
    second?.ack();
    expect(honker.claim("q", "h", 10)).toEqual([ids[2] ?? 0]);
    honker.fail(ids[2] ?? 0, "h", "no");
    honker.cancel(ids[3] ?? 0);
    db.clock.advance("1m");
    expect(runAll(queue)).toEqual([5, "late"]);
    expect(queue.dead.list()).toMatchObject([{ id: ids[2], payload: 3 }]);
  });

  test("that plain SQL inserts join as others do", () => {
    // Plain SQL goes by the system's clock.
    using db = database({ now: new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 60_000) });
    const queue = db.queue("q");
    queue.enqueue(1, G);
    const later = Math.floor(db.clock.now / 1_000) + 60;
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload, group_key) VALUES ('q', '2', 'g')`);
    db.sqlite.run(
      `INSERT INTO _honker_live (queue, payload, group_key, run_at) VALUES ('q', '"late"', 'g', ${later})`,
    );
    queue.enqueue(3, G);
    expect(queue.counts()).toMatchObject({ ready: 3, blocked: 0, delayed: 1 });
    const [one] = queue.claimBatch(5);
    expect(queue.counts()).toMatchObject({ ready: 0, blocked: 2, processing: 1 });
    one?.ack();
    db.clock.advance("1m");
    expect(runAll(queue)).toEqual([2, 3, "late"]);
  });
});

describe("groupConcurrency", () => {
  const active = (db: Honkbun): unknown =>
    db.sqlite.query("SELECT id FROM _honker_live WHERE state <> 'blocked' ORDER BY id").all();

  test("lets so many of each group run at once", () => {
    using db = database();
    const queue = db.queue("q");
    queue.setLimits({ groupConcurrency: 2 });
    queue.enqueueMany([1, 2, 3, 4], { group: "a" });
    queue.enqueueMany([5, 6, 7], { group: "b" });
    const jobs = queue.claimBatch(10);
    expect(payloads(jobs)).toEqual([1, 2, 5, 6]);
    jobs[1]?.ack();
    expect(payloads(queue.claimBatch(10))).toEqual([3]);
    jobs[2]?.ack();
    jobs[3]?.ack();
    expect(payloads(queue.claimBatch(10))).toEqual([7]);
  });

  test("holds at once for jobs that are there: raised, they have their turn; lowered, they wait again", () => {
    using db = database();
    const queue = db.queue("q");
    const ids = queue.enqueueMany([1, 2, 3, 4, 5], G);
    queue.setLimits({ groupConcurrency: 3 });
    expect(active(db)).toEqual([{ id: ids[0] }, { id: ids[1] }, { id: ids[2] }]);
    const [one, two] = queue.claimBatch(2);
    queue.setLimits({ groupConcurrency: 1 });
    expect(active(db)).toEqual([{ id: ids[0] }, { id: ids[1] }]); // they run already
    one?.ack();
    expect(queue.claimBatch(5)).toEqual([]);
    two?.ack();
    expect(runAll(queue)).toEqual([3, 4, 5]);
  });
});

test("a job that is claimed no longer waits for its turn when its group has no room any more", () => {
  using db = database();
  const queue = db.queue("q", { visibilityTimeout: "10s" });
  queue.setLimits({ groupConcurrency: 2 });
  queue.enqueueMany([1, 2, 3], G);
  const [one, two] = queue.claimBatch(2);
  queue.setLimits({ groupConcurrency: 1 });
  one?.retry({ delay: 0 });
  expect(queue.claimBatch(3)).toEqual([]);
  two?.ack();
  expect(payloads(queue.claimBatch(3))).toEqual([1]);
  // A claim that has expired, and whose job waits for others now, is not held again.
  queue.setLimits({ groupConcurrency: 2 });
  const [three] = queue.claimBatch(3);
  expect(three?.payload).toBe(3);
  db.clock.advance("12s");
  queue.setLimits({ concurrency: 1 });
  const again = queue.claimBatch(1);
  queue.setLimits({ groupConcurrency: 1 });
  for (const job of [one, three]) expect(() => job?.heartbeat()).toThrow();
  expect(queue.counts()).toMatchObject({ processing: 1, blocked: 1 });
  expect(payloads(again)).toEqual([1]);
});

test("nothing of a queue with groups is claimed ahead", async () => {
  using db = database({ file: true });
  const queue = db.queue<number>("q");
  queue.enqueueMany(Array.from({ length: 20 }, (_, n) => n));
  queue.enqueueMany([100, 101], G);
  const processing: number[] = [];
  const worker = queue.work(
    async () => {
      processing.push(queue.counts().processing);
      await new Promise((resolve) => setTimeout(resolve, 1));
    },
    { prefetch: 50 },
  );
  await eventually(() => processing.length === 22, "all are run");
  await worker.stop();
  expect(Math.max(...processing)).toBeLessThanOrEqual(2); // one that is to be acked, and one that runs
});
