import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Job, UnrecoverableError } from "../../src/index.ts";
import { Commits } from "../support/commits.ts";
import { database, JumpingHonkbun } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

for (const file of [false, true]) {
  describe(`work, ${file ? "on a file" : "in memory"}`, () => {
    test("runs each job, in claim order, and acks what its handler ends well", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      queue.enqueueMany([1, 2, 3]);
      queue.enqueue(0, { priority: 1 });
      const seen: number[] = [];
      await using worker = queue.work((job) => void seen.push(job.payload));
      await eventually(() => seen.length === 4, "all are run");
      queue.enqueue(4); // woken by the commit
      await eventually(() => seen.length === 5, "the last is run");
      await worker.stop();
      expect(seen).toEqual([0, 1, 2, 3, 4]);
      expect(queue.counts()).toMatchObject({ ready: 0, processing: 0 });
    });

    test("keeps what a handler returns as the job's result", async () => {
      using db = database({ file });
      const queue = db.queue<number, { double: number }>("q", { keepResult: "1h" });
      const [one = 0, two = 0] = queue.enqueueMany([1, 2]);
      await using _ = queue.work(async (job) => ({ double: job.payload * 2 }), { concurrency: 2 });
      await eventually(() => queue.get(two)?.state === "completed", "both are run");
      expect([queue.get(one)?.result, queue.get(two)?.result]).toEqual([{ double: 2 }, { double: 4 }]);
    });

    test("retries what a handler throws, with backoff, and buries it after the last attempt", async () => {
      using db = database({ file });
      const queue = db.queue("q", { maxAttempts: 2, backoff: { base: "10s", jitter: 0 } });
      const id = queue.enqueue(1);
      await using _ = queue.work(() => {
        throw new Error("down");
      });
      await eventually(() => queue.get(id)?.state === "delayed", "the first attempt has failed");
      expect(queue.get(id)?.runAt.getTime()).toBe(db.clock.now + 10_000);
      db.clock.advance("10s");
      await eventually(() => queue.get(id)?.state === "dead", "it is buried");
      expect(queue.get(id)?.errors).toMatchObject([
        { attempt: 1, message: "down", stack: expect.stringContaining("work.test.ts") },
        { attempt: 2, message: "down" },
      ]);
    });

    test("buries at once what throws UnrecoverableError", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      await using _ = queue.work(async () => {
        throw new UnrecoverableError("no such address");
      });
      await eventually(() => queue.get(id)?.state === "dead", "it is buried");
      expect(queue.dead.list()).toMatchObject([{ attempts: 1, errors: [{ message: "no such address" }] }]);
    });

    const settles: Record<string, [(job: Job<unknown>) => void, string]> = {
      ack: [(job) => job.ack(), "completed"],
      retry: [(job) => job.retry({ delay: "1m" }), "delayed"],
      fail: [(job) => job.fail("no"), "dead"],
      snooze: [(job) => job.snooze("1m"), "delayed"],
    };
    for (const [call, [settle, state]] of Object.entries(settles)) {
      for (const end of ["returns", "throws"]) {
        test(`lets job.${call} win over a handler that ${end} afterwards`, async () => {
          using db = database({ file });
          const errors: unknown[] = [];
          using _ = db.on("error", ({ error }) => void errors.push(error));
          const queue = db.queue("q", { keepResult: true });
          const id = queue.enqueue(1);
          const worker = queue.work(async (job) => {
            settle(job);
            if (end === "throws") throw new Error("ignored");
          });
          await eventually(() => queue.get(id)?.state === state, "it is settled");
          await worker.stop();
          expect(queue.get(id)?.state as string).toBe(state);
          expect(queue.get(id)?.errors.some(({ message }) => message === "ignored")).toBe(false);
          expect(errors).toEqual([]);
        });
      }
    }

    test("commits the application's write, the ack with its result and a follow-up job together", async () => {
      using db = database({ file });
      db.sqlite.run("CREATE TABLE reports (n INTEGER)");
      const queue = db.queue<number, string>("q", { keepResult: true, backoff: { base: 0 } });
      const next = db.queue("next");
      const id = queue.enqueue(7);
      let attempts = 0;
      await using _ = queue.work((job) => {
        db.transaction((tx) => {
          tx.run("INSERT INTO reports VALUES (?)", [job.payload]);
          next.enqueue({ report: job.payload });
          job.ack({ result: "in" });
          if (++attempts === 1) throw new Error("rolled back");
        });
        return "out";
      });
      await eventually(() => queue.get(id)?.state === "completed", "it is completed");
      expect(attempts).toBe(2); // the rollback unsettled the job, and the throw ended the attempt
      expect(queue.get(id)).toMatchObject({ attempts: 2, result: "in" });
      expect(db.sqlite.query("SELECT n FROM reports").all()).toEqual([{ n: 7 }]);
      expect(next.counts().ready).toBe(1);
    });

    test("runs so many handlers at once, and never more", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      queue.enqueueMany(Array.from({ length: 50 }, (_, n) => n));
      let most = 0;
      let done = 0;
      const worker = queue.work(
        async () => {
          most = Math.max(most, worker.running);
          await tick();
          done++;
        },
        { concurrency: 7 },
      );
      await eventually(() => done === 50, "all are run");
      await worker.stop();
      expect(most).toBe(7);
      expect(worker.running).toBe(0);
    });

    test("starts handlers that work synchronously in turns, so that the event loop has its own", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      let turns = 0;
      const count = setInterval(() => turns++, 0);
      const seen: number[] = [];
      queue.enqueueMany(Array.from({ length: 20 }, (_, n) => n));
      await using _ = queue.work(
        () => {
          seen.push(turns);
          Bun.sleepSync(4);
        },
        { concurrency: 20 },
      );
      await eventually(() => seen.length === 20, "all are run");
      clearInterval(count);
      expect(new Set(seen).size).toBeGreaterThan(10);
    });

    test("waits while the application has a transaction open, and loses nothing", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      const seen: number[] = [];
      queue.enqueueMany([1, 2]);
      await using _ = queue.work(async (job) => {
        await tick();
        seen.push(job.payload);
      });
      db.sqlite.run("BEGIN");
      db.sqlite.query("SELECT count(*) FROM _honker_live").get();
      await tick();
      await tick();
      db.sqlite.run("COMMIT");
      await eventually(() => seen.length === 2, "both are run");
    });

    test("has failed when a result cannot be stored", async () => {
      using db = database({ file });
      const queue = db.queue("q", {
        schema: z.number(),
        result: z.object({ n: z.number() }),
        keepResult: true,
        maxAttempts: 1,
      });
      const id = queue.enqueue(1);
      await using _ = queue.work(() => ({ n: "x" }) as never);
      await eventually(() => queue.get(id)?.state === "dead", "it is buried");
      expect(queue.get(id)?.errors[0]?.message).toContain("does not fit its schema: n:");
    });

    test("goes on with the default where the application's backoff fails, and says so", async () => {
      using db = database({ file });
      const errors: unknown[] = [];
      using _ = db.on("error", ({ where }) => void errors.push(where));
      const queue = db.queue("q", {
        backoff: () => {
          throw new Error("no");
        },
      });
      const id = queue.enqueue(1);
      await using __ = queue.work(() => Promise.reject("a text"));
      await eventually(() => queue.get(id)?.state === "delayed", "it is retried");
      expect(queue.get(id)?.errors).toMatchObject([{ message: "a text" }]);
      expect(errors).toEqual(["backoff of q"]);
    });
  });
}

describe("work", () => {
  test("writes what ends in one tick, and the next claims, in one transaction", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(Array.from({ length: 100 }, (_, n) => n));
    let done = 0;
    const before = commits.count;
    const worker = queue.work(async () => void done++, { concurrency: 10 });
    await eventually(() => queue.counts().ready === 0 && done === 100, "all are run");
    await worker.stop();
    // Ten rounds of ten, the first claim, the last acks, a claim that finds no more.
    expect(commits.count - before).toBeLessThanOrEqual(13);
    expect(queue.counts().processing).toBe(0);
  });

  test("shares that transaction with the workers of other queues", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const queues = ["a", "b", "c"].map((name) => db.queue<number>(name));
    for (const queue of queues) queue.enqueueMany([1, 2, 3, 4, 5]);
    const before = commits.count;
    let done = 0;
    const workers = queues.map((queue) => queue.work(async () => void done++));
    await eventually(() => done === 15, "all are run");
    await Promise.all(workers.map((worker) => worker.stop()));
    expect(commits.count - before).toBeLessThanOrEqual(8);
  });

  test("renews the claims of 1,000 running handlers at a third of the visibility timeout, in one transaction", async () => {
    using commits = new Commits();
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue<number>("q", { visibilityTimeout: "30s" });
    queue.enqueueMany(Array.from({ length: 1_000 }, (_, n) => n));
    const gate = Promise.withResolvers<void>();
    const worker = queue.work(() => gate.promise, { concurrency: 1_000 });
    await eventually(() => worker.running === 1_000, "all are running");
    const expiries = (): unknown[] =>
      db.sqlite
        .query("SELECT DISTINCT claim_expires_at - ? AS left FROM _honker_live")
        .all(db.clock.now / 1_000);
    for (let round = 0; round < 6; round++) {
      const before = commits.count;
      db.clock.advance("10s");
      await eventually(() => Bun.deepEquals(expiries(), [{ left: 30 }]), "all are renewed");
      expect(commits.count - before).toBe(1);
    }
    gate.resolve();
    await worker.stop();
    expect(queue.counts()).toMatchObject({ ready: 0, processing: 0 });
  });

  test("holds a claim for 60 s by default, or for what the queue says", async () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const gate = Promise.withResolvers<void>();
    db.queue("q").enqueue(1);
    db.queue("r").enqueue(1);
    const workers = [
      db.queue("q").work(() => gate.promise),
      db.queue("r", { visibilityTimeout: "5m" }).work(() => gate.promise, { name: "reporter" }),
    ];
    await eventually(() => workers.every(({ running }) => running === 1), "both are running");
    expect(
      db.sqlite
        .query("SELECT claim_expires_at - ? AS left, worker_id AS worker FROM _honker_live")
        .all(db.clock.now / 1_000),
    ).toEqual([
      { left: 60, worker: expect.stringMatching(new RegExp(`^${process.pid}~`)) },
      { left: 300, worker: expect.stringMatching(/^reporter~/) },
    ]);
    gate.resolve();
    await Promise.all(workers.map((worker) => worker.stop()));
  });

  test("tells what became of jobs by events", async () => {
    using db = database();
    const events: unknown[] = [];
    for (const name of ["job:completed", "job:retried", "job:dead"] as const) {
      db.on(name, ({ id, error }) => void events.push([name, id, (error as Error | undefined)?.message]));
    }
    const queue = db.queue<string>("q");
    queue.enqueueMany(["well", "badly", "worst"]);
    await using _ = queue.work((job) => {
      if (job.payload === "badly") throw new Error("no");
      if (job.payload === "worst") throw new UnrecoverableError("never");
    });
    await eventually(() => events.length === 3, "all are told");
    expect(events).toEqual([
      ["job:completed", 1, undefined],
      ["job:retried", 2, "no"],
      ["job:dead", 3, "never"],
    ]);
  });

  test("keeps what has ended until it can be written, and reports what keeps it from that", async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    using _ = db.on("error", ({ error, where }) => void errors.push([(error as Error).message, where]));
    const queue = db.queue("q");
    queue.enqueue(1);
    let runs = 0;
    const gate = Promise.withResolvers<void>();
    const worker = queue.work(() => {
      runs++;
      return gate.promise;
    });
    await eventually(() => runs === 1, "it runs");
    db.sqlite.run(
      "CREATE TRIGGER full BEFORE DELETE ON _honker_live BEGIN SELECT raise(ABORT, 'disk full'); END",
    );
    gate.resolve();
    await eventually(() => errors.length > 0, "it is reported");
    await tick();
    expect(errors).toEqual([["disk full", "worker of q"]]); // not in a hot loop
    db.sqlite.run("DROP TRIGGER full");
    await eventually(() => queue.counts().processing === 0, "it is acked");
    await worker.stop();
    expect(runs).toBe(1);
    expect(queue.counts().ready).toBe(0);
  });

  test("goes on claiming after an error that kept it from that", async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    using _ = db.on("error", ({ error }) => void errors.push((error as Error).message));
    const queue = db.queue("q");
    db.sqlite.run(
      "CREATE TRIGGER full BEFORE UPDATE ON _honker_live BEGIN SELECT raise(ABORT, 'disk full'); END",
    );
    let runs = 0;
    await using __ = queue.work(() => void runs++);
    queue.enqueue(1);
    await eventually(() => errors.length > 0, "it is reported");
    db.sqlite.run("DROP TRIGGER full");
    await eventually(() => runs === 1, "it runs");
    expect(new Set(errors)).toEqual(new Set(["disk full"]));
  });

  test("settles a job whose transaction on another handle ends after the handler, either way", async () => {
    for (const end of ["COMMIT", "ROLLBACK"]) {
      using db = database({ file: true });
      const queue = db.queue("q", { backoff: { base: 0 }, keepResult: true });
      const id = queue.enqueue(1);
      using mine = new Database(db.sqlite.filename);
      let runs = 0;
      const worker = queue.work((job) => {
        if (++runs > 1) return;
        mine.run("BEGIN IMMEDIATE");
        job.ack({ tx: mine });
      });
      await eventually(() => runs === 1, "it runs");
      await tick();
      mine.run(end);
      await eventually(() => queue.get(id)?.state === "completed", "it is completed");
      await worker.stop();
      expect(runs).toBe(end === "COMMIT" ? 1 : 2);
    }
  });

  describe("over a time in which the machine slept, and its claims have expired", () => {
    for (const file of [false, true]) {
      test(`keeps what it runs, and claims again only then, ${file ? "on a file" : "in memory"}`, async () => {
        using db = new JumpingHonkbun({ file, now: new Date("2030-01-01T00:00:00Z") });
        const queue = db.queue<number>("q");
        queue.enqueue(1);
        const gate = Promise.withResolvers<void>();
        let runs = 0;
        const worker = queue.work(
          () => {
            runs++;
            return gate.promise;
          },
          { concurrency: 2 },
        );
        await eventually(() => runs === 1, "it runs");
        await tick();
        db.clock.advance("1h"); // wakes who waits for a job
        await tick();
        await tick();
        gate.resolve();
        await worker.stop();
        expect(runs).toBe(1);
        expect(queue.counts()).toMatchObject({ ready: 0, processing: 0, dead: 0 });
      });

      test(`keeps what it runs when another handler ends first, ${file ? "on a file" : "in memory"}`, async () => {
        using db = new JumpingHonkbun({ file, now: new Date("2030-01-01T00:00:00Z") });
        const queue = db.queue<number>("q");
        queue.enqueueMany([0, 1]);
        const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        const runs: number[] = [];
        const worker = queue.work(
          ({ payload }) => {
            runs.push(payload);
            return gates[payload]?.promise;
          },
          { concurrency: 2 },
        );
        await eventually(() => runs.length === 2, "both run");
        await tick();
        db.sleep("1h");
        gates[0]?.resolve();
        await tick();
        await tick();
        gates[1]?.resolve();
        await worker.stop();
        expect(runs).toEqual([0, 1]);
        expect(queue.counts()).toMatchObject({ ready: 0, processing: 0, dead: 0 });
      });
    }
  });

  test("refuses bad arguments before anything is claimed", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue(1);
    const bad: [unknown, unknown, string][] = [
      [undefined, {}, "work: handler must be a function"],
      [() => {}, { concurrency: 0 }, "work: concurrency"],
      [() => {}, { concurrency: 1.5 }, "work: concurrency"],
      [() => {}, { timeout: 0 }, "work: timeout must be more than 0"],
      [() => {}, { timeout: "5 s" }, "work: timeout"],
      [() => {}, { signal: {} }, "work: signal"],
      [() => {}, { threads: 2 }, "work: unknown option threads"],
    ];
    for (const [handler, options, message] of bad) {
      expect(() => queue.work(handler as never, options as never)).toThrow(message);
    }
    expect(queue.counts()).toMatchObject({ ready: 1, processing: 0 });
    expect(db.stats().wake.mode).toBe("idle");
  });

  test("never claims with a signal that is aborted already", async () => {
    using db = database();
    db.queue("q").enqueue(1);
    const worker = db.queue("q").work(() => {}, { signal: AbortSignal.abort() });
    await within(worker.stopped, "it has stopped");
    expect(db.queue("q").counts().ready).toBe(1);
  });
});
