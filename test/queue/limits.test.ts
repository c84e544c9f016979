import { describe, expect, test } from "bun:test";

import { type Job, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Honker } from "../support/honker.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

describe("setLimits: concurrency", () => {
  test("lets no more be claimed, by whatever means, until one is settled", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(10));
    queue.setLimits({ concurrency: 3 });
    const jobs = queue.claimBatch(10);
    expect(jobs).toHaveLength(3);
    expect(db.queue("q").claimBatch(10)).toEqual([]);
    jobs[0]?.ack();
    jobs[1]?.retry({ delay: "1h" });
    expect(queue.claimBatch(10)).toHaveLength(2);
    expect(queue.claimBatch(10)).toEqual([]);
  });

  test("counts what honker has claimed, and no longer what has expired", () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    const queue = db.queue<number>("q", { visibilityTimeout: "10s" });
    queue.enqueueMany(numbers(10));
    queue.setLimits({ concurrency: 3 });
    honker.claim("q", "h");
    expect(queue.claimBatch(10)).toHaveLength(2);
    db.clock.advance("12s");
    expect(queue.claimBatch(10)).toHaveLength(2);
    db.clock.advance("10m");
    expect(queue.claimBatch(10)).toHaveLength(3);
  });

  test("is for each queue, and lifted by null; what is not named stays", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(9));
    db.queue("other").enqueueMany(numbers(9));
    queue.setLimits({ concurrency: 1 });
    queue.setLimits({ groupConcurrency: 5, keepDead: { maxCount: 5 } });
    expect(queue.claimBatch(9)).toHaveLength(1);
    expect(db.queue("other").claimBatch(9)).toHaveLength(9);
    queue.setLimits({ concurrency: null });
    expect(queue.claimBatch(9)).toHaveLength(8);
  });

  test("wakes workers when there is room again, here and after a restart", async () => {
    using folder = new Folder();
    {
      using db = open(folder.file());
      db.queue("q").setLimits({ concurrency: 2 });
    }
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const queue = db.queue<number>("q");
    let [running, most, done] = [0, 0, 0];
    const handler = async (): Promise<void> => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      done++;
    };
    const workers = [queue.work(handler, { concurrency: 5 }), queue.work(handler, { concurrency: 5 })];
    queue.enqueueMany(numbers(30));
    await eventually(() => done === 30, "all are run");
    expect(most).toBe(2);
    for (const worker of workers) await worker.stop();
  });

  test("is seen by a worker that waits, when it is lifted", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(2));
    queue.setLimits({ concurrency: 1 });
    const gate = Promise.withResolvers<void>();
    const worker = queue.work(() => gate.promise, { concurrency: 5 });
    await eventually(() => worker.running === 1, "one runs");
    await soon();
    expect(worker.running).toBe(1);
    queue.setLimits({ concurrency: null });
    await eventually(() => worker.running === 2, "the other one, too");
    gate.resolve();
    await worker.stop();
  });

  test("is not exceeded by a claim that had expired, and is renewed late", () => {
    using db = database();
    const queue = db.queue<string>("q", { visibilityTimeout: "10s" });
    queue.enqueue("late");
    queue.setLimits({ concurrency: 1 });
    const [late] = queue.claimBatch(2);
    queue.enqueue("urgent", { priority: 5 });
    db.clock.advance("12s");
    const [urgent] = queue.claimBatch(2);
    expect(urgent?.payload).toBe("urgent");
    expect(() => late?.heartbeat()).toThrow("the claim on job");
    expect(queue.counts()).toMatchObject({ processing: 1, ready: 1 });
    urgent?.ack();
    late?.heartbeat(); // nobody has taken it, and there is room
    expect(queue.counts()).toMatchObject({ processing: 1, ready: 0 });
  });

  test("reaches what was claimed ahead before", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(100));
    let done = 0;
    const worker = queue.work(
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 3));
        done++;
      },
      { prefetch: 90 },
    );
    await eventually(() => done === 3, "some are run");
    queue.setLimits({ rate: { limit: 1, per: "1h" } });
    await eventually(() => queue.counts().processing === 0, "what was claimed ahead is given back");
    const before = done;
    await soon();
    expect(done - before).toBeLessThanOrEqual(1);
    expect(before).toBeLessThan(20);
    await worker.stop();
  });

  test("lets nothing be claimed ahead, by worker or loop", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(20));
    queue.setLimits({ concurrency: 10 });
    let most = 0;
    let done = 0;
    const worker = queue.work(
      async () => {
        most = Math.max(most, queue.counts().processing);
        await new Promise((resolve) => setTimeout(resolve, 1));
        done++;
      },
      { prefetch: 20 },
    );
    await eventually(() => done === 20, "all are run");
    await worker.stop();
    expect(most).toBeLessThanOrEqual(2); // one that is to be acked, and one that runs
    queue.enqueueMany(numbers(3));
    const jobs = queue.claim({ prefetch: 5 });
    await jobs.next();
    expect(queue.counts()).toMatchObject({ processing: 1, ready: 2 });
    await jobs.return?.();
  });
});

test("a limited lane of a worker has its share of the slots beside one that is claimed ahead", async () => {
  using db = database({ file: true });
  const busy = db.task("busy", {}, () => new Promise((resolve) => setTimeout(resolve, 1)));
  const seen: number[] = [];
  const limited = db.task<never, void>(
    "limited",
    {},
    (() => void seen.push(busy.queue.counts().ready)) as never,
  );
  limited.queue.setLimits({ concurrency: 2 });
  busy.enqueueMany(numbers(2_000) as never);
  const worker = db.work({ concurrency: 4, prefetch: 50 });
  await eventually(() => busy.queue.counts().ready < 1_900, "it works");
  limited.enqueueMany(numbers(5) as never);
  await eventually(() => seen.length === 5, "the limited ones are run");
  expect(Math.min(...seen)).toBeGreaterThan(500); // long before the others are through
  await worker.stop({ timeout: 0 });
});

describe("setLimits: rate", () => {
  test("lets so many be started within any such time", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(100));
    queue.setLimits({ rate: { limit: 5, per: "10s" } });
    const started: number[] = [];
    const claim = (count: number): number => {
      const jobs = queue.claimBatch(count);
      for (const job of jobs) job.ack();
      started.push(...jobs.map(() => db.clock.now));
      return jobs.length;
    };
    expect(claim(3)).toBe(3);
    db.clock.advance("6s");
    expect(claim(9)).toBe(2);
    db.clock.advance(3_999);
    expect(claim(9)).toBe(0);
    db.clock.advance(1);
    expect(claim(9)).toBe(3);
    for (let n = 0; n < 40; n++) {
      db.clock.advance(700 + 137 * (n % 7));
      claim(1 + (n % 3));
    }
    for (const from of started) {
      expect(started.filter((at) => at >= from && at < from + 10_000).length).toBeLessThanOrEqual(5);
    }
    expect(started.length).toBeGreaterThan(15);
    const { n } = db.sqlite.query("SELECT count(*) AS n FROM _honkbun_starts").get() as { n: number };
    expect(n).toBeLessThan(12); // what no longer counts is forgotten
  });

  test("wakes workers when the next may start, and lets nothing be claimed ahead", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.setLimits({ rate: { limit: 2, per: "10s" } });
    let done = 0;
    const worker = queue.work(() => void done++, { concurrency: 5, prefetch: 50 });
    queue.enqueueMany(numbers(5));
    await eventually(() => done === 2, "two are run");
    await soon();
    expect(done).toBe(2);
    expect(queue.counts()).toMatchObject({ processing: 0, ready: 3 });
    db.clock.advance("10s");
    await eventually(() => done === 4, "two more are run");
    db.clock.advance("10s");
    await eventually(() => done === 5, "the last is run");
    await worker.stop();
  });

  test("holds when the clock is set back, and starts anew soon after", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(20));
    queue.setLimits({ rate: { limit: 3, per: "10s" } });
    queue.claimBatch(2);
    db.clock.advance("1h");
    queue.claimBatch(2);
    db.clock.set(new Date(db.clock.now - 7_200_000));
    queue.enqueueMany(numbers(9));
    expect(queue.claimBatch(9)).toHaveLength(1);
    db.clock.advance("10s");
    expect(queue.claimBatch(9)).toHaveLength(3);
  });

  test("goes on soon after the clock was set back, and is asked for without writing", async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const queue = db.queue<number>("q");
    queue.setLimits({ rate: { limit: 2, per: "10s" } });
    let done = 0;
    const worker = queue.work(() => void done++);
    queue.enqueueMany(numbers(2));
    await eventually(() => done === 2, "two are run");
    using other = open(db.sqlite.filename);
    other.sqlite.run("BEGIN IMMEDIATE");
    db.clock.set(new Date(db.clock.now - 3_600_000));
    await soon();
    other.sqlite.run("ROLLBACK");
    queue.enqueueMany(numbers(4));
    const isNoticed = "SELECT max(at) <= ? AS yes FROM _honkbun_starts";
    await eventually(
      () => db.sqlite.query<{ yes: number }, [number]>(isNoticed).get(db.clock.now)?.yes === 1,
      "it is noticed",
    );
    await soon();
    expect(done).toBe(2);
    db.clock.advance("10s");
    await eventually(() => done === 4, "two more are run");
    db.clock.advance("10s");
    await eventually(() => done === 6, "all are run");
    expect(errors).toEqual([]);
    await worker.stop();
    queue.setLimits({ rate: null });
    expect(db.sqlite.query("SELECT * FROM _honkbun_starts").all()).toEqual([]);
  });

  test("can be changed, and holds for what was started before", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(30));
    queue.setLimits({ rate: { limit: 5, per: "1s" } });
    for (let n = 0; n < 4; n++) {
      expect(queue.claimBatch(9)).toHaveLength(5);
      db.clock.advance("1s");
    }
    queue.setLimits({ rate: { limit: 7, per: "1h" } });
    const claimed = queue.claimBatch(30).length; // at least those of the last second are remembered
    expect(claimed).toBeLessThanOrEqual(7);
    queue.setLimits({ rate: null });
    expect(queue.claimBatch(30)).toHaveLength(10 - claimed);
  });
});

describe("a paused queue", () => {
  test("starts nothing that a worker has claimed ahead, and gives it back", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(100));
    let [done, afterPause, isPaused] = [0, 0, false];
    const worker = queue.work(
      async () => {
        if (isPaused) afterPause++;
        await new Promise((resolve) => setTimeout(resolve, 3));
        done++;
      },
      { prefetch: 90 },
    );
    await eventually(() => done === 3, "some are run");
    queue.pause();
    await new Promise((resolve) => setTimeout(resolve, 8));
    isPaused = true; // what had begun goes on
    await eventually(() => queue.counts().processing === 0, "what was claimed ahead is given back");
    await soon();
    expect(afterPause).toBe(0);
    const { ready } = queue.counts();
    expect(ready).toBe(100 - done);
    expect(queue.list().every(({ attempts }) => attempts === 0)).toBe(true);
    queue.resume();
    await eventually(() => done === 100, "all are run");
    await worker.stop();
  });

  test("hands out nothing that a loop has claimed ahead, and hands it out once it is resumed", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(4));
    const jobs = queue.claim({ prefetch: 3 });
    const { value: first } = await jobs.next();
    queue.pause();
    await eventually(() => queue.counts().ready === 3, "the others are given back");
    (first as Job<number>).ack();
    const next = jobs.next();
    await soon();
    expect(Bun.peek.status(next)).toBe("pending");
    queue.resume();
    expect((await next).value?.payload).toBe(1);
    await jobs.return?.();
  });

  test("keeps its limits and groups, and starts none of them", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(numbers(3), { group: "g" });
    queue.enqueue(9, { group: "g", delay: "1s" });
    queue.setLimits({ concurrency: 2, rate: { limit: 5, per: "1m" } });
    queue.pause();
    db.clock.advance("1m");
    expect(queue.claimBatch(5)).toEqual([]);
    queue.resume();
    expect(queue.claimBatch(5)).toMatchObject([{ payload: 0 }]);
  });
});

describe("setLimits refuses", () => {
  for (const [what, limits, error] of [
    ["nothing", undefined, "setLimits: limits must be an object, got undefined"],
    ["null", null, "setLimits: limits must be an object, got null"],
    ["what is unknown", { speed: 1 }, "setLimits: unknown option speed"],
    ["a concurrency of none", { concurrency: 0 }, "setLimits: concurrency"],
    ["a broken concurrency", { concurrency: 1.5 }, "setLimits: concurrency"],
    ["a group concurrency of null", { groupConcurrency: null }, "setLimits: groupConcurrency"],
    ["a rate of none", { rate: { limit: 0, per: "1s" } }, "setLimits: rate.limit"],
    ["a rate in no time", { rate: { limit: 1, per: 0 } }, "setLimits: rate.per must be more than 0, got 0"],
    ["a rate without a time", { rate: { limit: 1 } }, "setLimits: rate.per"],
    ["an unknown retention", { keepDead: { age: 1 } }, "setLimits: unknown option keepDead.age"],
    ["an age that is none", { keepCompleted: { maxAge: "1 day" } }, "setLimits: keepCompleted.maxAge"],
    ["a count that is none", { keepCompleted: { maxCount: -1 } }, "setLimits: keepCompleted.maxCount"],
  ] as const) {
    test(what, () => {
      using db = database();
      expect(() => db.queue("q").setLimits(limits as never)).toThrow(error);
      expect(db.sqlite.query("SELECT * FROM _honkbun_queues").all()).toEqual([]);
    });
  }
});
