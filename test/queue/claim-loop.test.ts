import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { ClaimLostError, type Honkbun, type Job, JobCancelledError, open } from "../../src/index.ts";
import { Commits } from "../support/commits.ts";
import { database, JumpingHonkbun } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const expiry = (db: Honkbun): number | null =>
  db.sqlite.query<{ at: number | null }, []>("SELECT claim_expires_at AS at FROM _honker_live").get()?.at ??
  null;

const aborted = (job: Job<unknown>): Promise<unknown> => {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  job.signal.addEventListener("abort", () => resolve(job.signal.reason));
  return within(promise, "the job is aborted");
};

for (const file of [false, true]) {
  describe(`the current job of a claim loop, ${file ? "on a file" : "in memory"}`, () => {
    test("has its claim renewed for as long as it takes", async () => {
      using db = database({ file, now: new Date("2030-01-01T00:00:00Z") });
      const queue = db.queue("q", { visibilityTimeout: "30s" });
      queue.enqueue(1);
      const { value: job } = await queue.claim().next();
      for (let n = 0; n < 20; n++) {
        const before = expiry(db);
        db.clock.advance("10s");
        await eventually(() => expiry(db) !== before, "the claim is renewed");
        expect(queue.claimBatch(1)).toEqual([]);
      }
      job.ack();
    });

    test("is not renewed before a third of the visibility timeout, nor once it is settled", async () => {
      using db = database({ file, now: new Date("2030-01-01T00:00:00Z") });
      const queue = db.queue("q", { visibilityTimeout: "30s" });
      queue.enqueue(1);
      const { value: job } = await queue.claim().next();
      const before = expiry(db);
      db.clock.advance("9.9s");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(expiry(db)).toBe(before);
      job.snooze(0);
      db.clock.advance("1m");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(expiry(db)).toBeNull();
    });

    test("is not renewed once the next one is asked for, and job:unsettled tells", async () => {
      using db = database({ file });
      const unsettled: unknown[] = [];
      using _ = db.on("job:unsettled", (event) => void unsettled.push(event));
      const queue = db.queue("q", { visibilityTimeout: "30s" });
      const id = queue.enqueue(1);
      const jobs = queue.claim();
      const { value: job } = await jobs.next();
      expect(unsettled).toEqual([]);
      void jobs.next();
      expect(unsettled).toMatchObject([{ id, queue: "q", attempt: 1 }]);
      const before = expiry(db);
      db.clock.advance("20s");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(expiry(db)).toBe(before);
      job.ack(); // it is held all the same
    });

    test("learns by its signal that it was cancelled", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      const { value: job } = await queue.claim().next();
      const reason = aborted(job);
      queue.cancel(id);
      expect(await reason).toBeInstanceOf(JobCancelledError);
      expect(() => job.ack()).toThrow(ClaimLostError);
    });

    test("learns by its signal, at the next renewal, that it was taken away otherwise", async () => {
      using db = database({ file });
      const queue = db.queue("q", { visibilityTimeout: "30s" });
      queue.enqueue(1);
      const { value: job } = await queue.claim().next();
      const reason = aborted(job);
      db.sqlite.run("DELETE FROM _honker_live"); // as honker cancels
      db.clock.advance("10s");
      expect(await reason).toBeInstanceOf(ClaimLostError);
    });

    test("learns by its signal that the handle is closed", async () => {
      using db = database({ file });
      db.queue("q").enqueue(1);
      const { value: job } = await db.queue("q").claim().next();
      const reason = aborted(job);
      db.close();
      expect(await reason).toMatchObject({ code: "HONKBUN_CLOSED" });
    });

    test("is not told of other jobs' ends, nor of its own ack", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const [, other] = queue.enqueueMany([1, 2]);
      const { value: job } = await queue.claim().next();
      const { signal } = job;
      queue.cancel(other ?? 0);
      await new Promise((resolve) => setTimeout(resolve, 20));
      job.ack();
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(signal.aborted).toBe(false);
    });
  });
}

describe("a claim loop", () => {
  test("is told of a cancellation by another process at once", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    await using runner = new Process("job-runner", folder.file());
    await runner.read();
    const id = db.queue("q").enqueue(1);
    const { value: job } = await db.queue("q").claim().next();
    const reason = aborted(job);
    expect(await runner.ask({ cancel: id })).toBe(true);
    expect(await reason).toBeInstanceOf(JobCancelledError);
  });

  test("is held by a pause from another process, and woken by resume", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    await using runner = new Process("job-runner", folder.file());
    await runner.read();
    await runner.ask({ call: "pause" });
    db.queue("q").enqueue(1);
    const next = db.queue("q").claim().next();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(Bun.peek.status(next)).toBe("pending");
    await runner.ask({ call: "resume" });
    expect((await within(next, "the job is claimed")).value.payload).toBe(1);
  });

  test("retries what break left unsettled, and job:unsettled and job:retried tell", async () => {
    using db = database();
    const events: unknown[] = [];
    using _ = db.on("job:unsettled", ({ id }) => void events.push(["unsettled", id]));
    using __ = db.on("job:retried", ({ id }) => void events.push(["retried", id]));
    using ___ = db.on("job:dead", ({ id }) => void events.push(["dead", id]));
    const queue = db.queue("q", { backoff: { base: 0 } });
    queue.enqueue(1, { maxAttempts: 2 });
    for (let n = 0; n < 2; n++) for await (const _job of queue.claim()) break;
    expect(events).toEqual([
      ["unsettled", 1],
      ["retried", 1],
      ["unsettled", 1],
      ["dead", 1],
    ]);
    expect(queue.dead.list()[0]?.errors).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
  });

  test("renews again after a renewal that failed", async () => {
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const errors: unknown[] = [];
    using _ = db.on("error", ({ error }) => void errors.push(error));
    const queue = db.queue("q", { visibilityTimeout: "30s" });
    queue.enqueue(1);
    const { value: job } = await queue.claim().next();
    db.sqlite.run(
      "CREATE TRIGGER full BEFORE UPDATE ON _honker_live BEGIN SELECT raise(ABORT, 'disk full'); END",
    );
    const before = expiry(db);
    db.clock.advance("10s");
    await eventually(() => errors.length > 0, "it fails");
    db.sqlite.run("DROP TRIGGER full");
    expect(expiry(db)).toBe(before);
    db.clock.advance("1s");
    await eventually(() => expiry(db) !== before, "the claim is renewed");
    expect(errors).toMatchObject([{ message: expect.stringContaining("disk full") }]);
    job.ack();
  });

  test("is not given the job of another one after a sleep of the machine", async () => {
    using db = new JumpingHonkbun({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue("q");
    queue.enqueue(1);
    const [one, two] = [queue.claim(), queue.claim()];
    const { value: job } = await one.next();
    db.sleep("1h");
    const next = two.next();
    for (let n = 0; n < 10; n++) await new Promise((resolve) => setImmediate(resolve));
    expect(Bun.peek.status(next)).toBe("pending");
    job.ack();
    expect(queue.counts()).toMatchObject({ ready: 0, processing: 0 });
  });

  test("renews beside a writer that holds the lock for long, without blocking", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    const queue = db.queue("q", { visibilityTimeout: "1s" });
    queue.enqueue(1);
    const { value: job } = await queue.claim().next();
    using mine = new Database(folder.file());
    const before = expiry(db);
    mine.run("BEGIN IMMEDIATE");
    await new Promise((resolve) => setTimeout(resolve, 400)); // a renewal is due
    mine.run("COMMIT");
    await eventually(() => expiry(db) !== before, "the claim is renewed");
    job.ack();
  });

  test("keeps no process alive once it has ended and its jobs are settled", async () => {
    using db = database({ file: true });
    db.queue("q").enqueue(1);
    const controller = new AbortController();
    const { value: job } = await db.queue("q").claim({ signal: controller.signal }).next();
    controller.abort();
    expect(db.stats().wake.mode).not.toBe("idle"); // it still looks after the job
    job.ack();
    expect(db.stats().wake.mode).toBe("idle");
  });
});

test("a loop that begins in a transaction which cancels and rolls back learns of the next cancellation", async () => {
  using db = database();
  const queue = db.queue<number>("q");
  const [first = 0, second = 0] = queue.enqueueMany([1, 2]);
  let jobs: ReturnType<typeof queue.claim> | undefined;
  expect(() =>
    db.transaction(() => {
      queue.cancel(second);
      jobs = queue.claim();
      throw new Error("no");
    }),
  ).toThrow("no");
  const { value: job } = await within((jobs as ReturnType<typeof queue.claim>).next(), "a job");
  expect(job.id).toBe(first);
  const reason = aborted(job);
  queue.cancel(first);
  expect(await reason).toBeInstanceOf(JobCancelledError);
});

test("a throwing schema together with a throwing backoff holds up nothing", async () => {
  using db = database();
  const where: string[] = [];
  db.on("error", (event) => void where.push(event.where));
  let calls = 0;
  const schema = {
    "~standard": {
      version: 1 as const,
      vendor: "test",
      validate: (value: unknown) => {
        if (value === "bad" && calls++ > 1) throw new Error("the schema fails");
        return { value };
      },
    },
  };
  const queue = db.queue("q", {
    schema,
    backoff: () => {
      throw new Error("no");
    },
  });
  queue.enqueueMany(["bad", "good"]);
  calls = 2;
  const { value: job } = await within(queue.claim().next(), "the other one is claimed");
  expect(job.payload).toBe("good");
  expect(where).toEqual(["backoff of q"]);
  expect(queue.counts()).toMatchObject({ delayed: 1 });
});

test("a schema may send and read: it runs in no transaction of the loops'", async () => {
  using db = database({ file: true });
  const seen: unknown[] = [];
  let isClaimed = false;
  const queue = db.queue("q", {
    schema: {
      "~standard": {
        version: 1 as const,
        vendor: "test",
        validate: (value: unknown) => {
          if (isClaimed) seen.push(db.queue("audit").enqueue(value), db.queue("q").counts().processing);
          return { value };
        },
      },
    },
  });
  queue.enqueue("x");
  isClaimed = true;
  const { value: job } = await within(queue.claim().next(), "it is claimed");
  expect(job.payload).toBe("x");
  expect(seen).toEqual([2, 1]);
});

describe("a claim loop that claims ahead", () => {
  test("hands jobs out in order, several to a transaction, and gives back what it has not come to", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(Array.from({ length: 25 }, (_, n) => n));
    const before = commits.count;
    const seen: number[] = [];
    for await (const job of queue.claim({ prefetch: 9 })) {
      seen.push(job.payload);
      job.ack();
      if (seen.length === 15) break;
    }
    expect(seen).toEqual(Array.from({ length: 15 }, (_, n) => n));
    expect(commits.count - before).toBe(3); // two claims, and what goes back; the acks are single statements
    expect(queue.counts()).toMatchObject({ ready: 10, processing: 0 });
    expect(queue.list().every(({ attempts }) => attempts === 0)).toBe(true);
    expect(db.stats().wake.mode).toBe("idle");
  });

  test("renews what waits, passes over what is cancelled or cannot be read, and gives the rest back at its end", async () => {
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue("q", { schema: z.number(), visibilityTimeout: "30s" });
    const [, second = 0] = queue.enqueueMany([1, 2, 3, 4, 5]);
    db.sqlite.run("UPDATE _honker_live SET payload = '\"x\"' WHERE id = 3");
    const jobs = queue.claim({ prefetch: 4 });
    const { value: first } = await within(jobs.next(), "the first");
    db.clock.advance("10s");
    await eventually(
      () =>
        db.sqlite
          .query("SELECT DISTINCT claim_expires_at - ? AS left FROM _honker_live")
          .all(db.clock.now / 1_000).length === 1 && expiry(db) === db.clock.now / 1_000 + 30,
      "all are renewed",
    );
    first.ack();
    queue.cancel(second);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { value: fourth } = await within(jobs.next(), "the next");
    expect(fourth.payload).toBe(4);
    expect(queue.dead.list()).toMatchObject([{ id: 3 }]);
    await jobs.return?.();
    expect(db.sqlite.query("SELECT id, state, attempts FROM _honker_live ORDER BY id").all()).toEqual([
      { id: 4, state: "pending", attempts: 1 },
      { id: 5, state: "pending", attempts: 0 },
    ]);
  });

  test("gives back on close what waits", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueueMany([1, 2, 3]);
    await db.queue("q").claim({ prefetch: 2 }).next();
    expect(db.queue("q").counts().processing).toBe(3);
    db.close();
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject(
      Array.from({ length: 3 }, () => ({ state: "ready", attempts: 0 })),
    );
  });

  test("refuses what is no number, and a batch takes none", () => {
    using db = database();
    expect(() => db.queue("q").claim({ prefetch: -1 })).toThrow("claim: prefetch");
    expect(() => db.queue("q").claimBatch(1, { prefetch: 5 })).toThrow("claimBatch: prefetch is for claim");
  });
});
