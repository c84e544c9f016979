import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { ClaimLostError, type Honkbun, type Job, JobSettledError, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

// What a transaction, a savepoint or another handle may do to a job that was settled.

function one(db: Honkbun, options?: Parameters<Honkbun["queue"]>[1]): Job<unknown> {
  const queue = db.queue("q", options);
  queue.enqueue(1);
  const [job] = queue.claimBatch(1);
  if (job === undefined) throw new Error("nothing was claimed");
  return job;
}

function events(db: Honkbun): string[] {
  const seen: string[] = [];
  for (const name of ["job:completed", "job:retried", "job:dead"] as const)
    db.on(name, () => void seen.push(name));
  return seen;
}

for (const file of [false, true]) {
  describe(`a settled job, ${file ? "on a file" : "in memory"}`, () => {
    test("is unsettled by a savepoint of the application's that rolls back inside db.transaction", () => {
      using db = database({ file });
      const job = one(db);
      const seen = events(db);
      db.transaction(() => {
        try {
          db.sqlite.transaction(() => {
            job.ack();
            throw new Error("no");
          })();
        } catch {}
      });
      expect(job.settled).toBe(false);
      expect(seen).toEqual([]);
      job.retry();
      expect(seen).toEqual(["job:retried"]);
    });

    test("is unsettled by a nested db.transaction that rolls back alone, and what was settled before it stays", () => {
      using db = database({ file });
      const queue = db.queue("q");
      queue.enqueueMany([1, 2]);
      const [first, second] = queue.claimBatch(2);
      const seen = events(db);
      db.transaction(() => {
        first?.ack();
        expect(() =>
          db.transaction(() => {
            second?.ack();
            throw new Error("no");
          }),
        ).toThrow("no");
        expect([first?.settled, second?.settled]).toEqual([true, false]);
      });
      expect([first?.settled, second?.settled]).toEqual([true, false]);
      expect(seen).toEqual(["job:completed"]);
    });

    test("may be acked with db.sqlite as tx inside db.transaction, and is undone with it", () => {
      using db = database({ file });
      const job = one(db);
      expect(() =>
        db.transaction((tx) => {
          job.ack({ tx });
          throw new Error("no");
        }),
      ).toThrow("no");
      expect(job.settled).toBe(false);
      job.ack();
    });

    test("may be settled anew right after its transaction on a handle was rolled back", () => {
      using db = database({ file });
      const job = one(db);
      const seen = events(db);
      db.sqlite.run("BEGIN IMMEDIATE");
      job.ack({ tx: db.sqlite });
      expect(() => job.retry({ tx: db.sqlite })).toThrow(JobSettledError);
      db.sqlite.run("ROLLBACK");
      job.retry({ error: "no" });
      expect(seen).toEqual(["job:retried"]);
    });

    test("is lost, not completed, when the ack was rolled back and another claim has it by then", async () => {
      using db = database({ file });
      const job = one(db, { visibilityTimeout: "10s" });
      const seen = events(db);
      db.sqlite.run("BEGIN IMMEDIATE");
      job.ack({ tx: db.sqlite });
      db.clock.advance("1m");
      db.sqlite.run("ROLLBACK");
      db.sqlite.run("UPDATE _honker_live SET worker_id = 'other', attempts = 2"); // as it is taken over
      expect(job.settled).toBe(false);
      expect(() => job.ack()).toThrow(ClaimLostError);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(seen).toEqual([]);
    });

    test("does not keep break from ending the loop while its transaction is open", async () => {
      using db = database({ file });
      const queue = db.queue("q", { backoff: { base: 0 } });
      for (const end of ["COMMIT", "ROLLBACK"]) {
        const id = queue.enqueue(1);
        for await (const job of queue.claim()) {
          db.sqlite.run("BEGIN IMMEDIATE");
          job.ack({ tx: db.sqlite });
          break;
        }
        db.sqlite.run(end);
        // What was rolled back is retried.
        await eventually(() => (queue.get(id)?.state ?? "gone") !== "processing", "it is decided");
        expect(queue.get(id)?.state).toBe(end === "COMMIT" ? undefined : "ready");
      }
    });

    test("that is found lost inside a transaction is held again when that rolls back", () => {
      using db = database({ file });
      const job = one(db);
      const { signal } = job;
      expect(() =>
        db.transaction(() => {
          db.queue("q").cancel(job.id);
          expect(() => job.ack()).toThrow(ClaimLostError);
          throw new Error("no");
        }),
      ).toThrow("no");
      expect(signal.aborted).toBe(false);
      job.ack();
    });

    const settles: Record<string, (job: Job<unknown>, db: Honkbun) => void> = {
      ack: (job) => job.ack(),
      "ack with a result": (job) => job.ack({ result: 1 }),
      "snooze(0)": (job) => job.snooze(0),
      "snooze for a while": (job) => job.snooze("1m"),
      retry: (job) => job.retry(),
      fail: (job) => job.fail("no"),
      progress: (job) => job.progress(1),
      heartbeat: (job) => job.heartbeat(),
      ackBatch: (job, db) => {
        if (db.queue("q").ackBatch([job]) === 0) throw new ClaimLostError("none was held");
      },
      "ackBatch of many": (job, db) => {
        const queue = db.queue("q");
        const other = one(db);
        if (queue.ackBatch([job, other]) === 1) throw new ClaimLostError("one was held");
      },
    };
    for (const [call, settle] of Object.entries(settles)) {
      for (const keepResult of [false, true]) {
        test(`that was taken over is not touched by ${call} of its former holder, results ${keepResult ? "" : "not "}kept`, () => {
          using db = database({ file });
          const job = one(db, { keepResult });
          db.sqlite.run("UPDATE _honker_live SET worker_id = 'other', attempts = 2");
          const before = db.sqlite.query("SELECT * FROM _honker_live WHERE id = ?").get(job.id);
          expect(() => settle(job, db)).toThrow(ClaimLostError);
          expect(db.sqlite.query("SELECT * FROM _honker_live WHERE id = ?").get(job.id)).toEqual(before);
          for (const table of [
            "_honker_dead",
            "_honkbun_completed",
            "_honkbun_errors",
            "_honkbun_progress",
          ]) {
            expect(db.sqlite.query(`SELECT * FROM ${table}`).all()).toEqual([]);
          }
        });
      }
    }

    test("is acked together with what is stored of its attempts, or not at all", () => {
      using db = database({ file });
      const queue = db.queue("q", { backoff: { base: 0 } });
      const again = (): Job<unknown> => {
        const [job] = queue.claimBatch(1);
        if (job === undefined) throw new Error("nothing was claimed");
        return job;
      };
      for (const how of ["retried", "in progress"]) {
        queue.enqueue(1);
        if (how === "retried") again().retry({ error: "no" });
        const job = again();
        if (how === "in progress") job.progress(1);
        for (const table of ["errors", "progress"]) {
          db.sqlite.run(`CREATE TRIGGER full_${table} BEFORE DELETE ON _honkbun_${table}
            BEGIN SELECT raise(ABORT, 'disk full'); END`);
        }
        expect(() => job.ack()).toThrow("disk full");
        expect(job.settled).toBe(false);
        expect(queue.counts().processing).toBe(1);
        for (const table of ["errors", "progress"]) db.sqlite.run(`DROP TRIGGER full_${table}`);
        job.ack();
        expect(queue.get(job.id)).toBeNull();
      }
    });

    test("is buried or cancelled by one transaction: when its second half fails, nothing has happened", () => {
      using db = database({ file });
      const job = one(db, { maxAttempts: 1 });
      db.sqlite.run(
        "CREATE TRIGGER full BEFORE DELETE ON _honker_live BEGIN SELECT raise(ABORT, 'disk full'); END",
      );
      const queue = db.queue("q", { keepResult: true });
      const tries = [() => job.retry({ error: "no" }), () => job.fail("no"), () => queue.cancel(job.id)];
      for (const settle of tries) expect(settle).toThrow("disk full");
      const kept = one(db, { keepResult: true });
      expect(() => kept.ack({ result: 1 })).toThrow("disk full");
      db.sqlite.run("DROP TRIGGER full");
      for (const table of [
        "_honker_dead",
        "_honkbun_cancelled",
        "_honkbun_completed",
        "_honkbun_errors",
        "_honker_results",
      ]) {
        expect(db.sqlite.query(`SELECT * FROM ${table}`).all()).toEqual([]);
      }
      expect([job.settled, kept.settled]).toEqual([false, false]);
      job.ack();
      kept.ack();
    });
  });
}

for (const file of [false, true]) {
  test(`a batch is acked but for the job that was taken over, ${file ? "on a file" : "in memory"}`, () => {
    using db = database({ file });
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2, 3]);
    const jobs = queue.claimBatch(3);
    db.sqlite.run("UPDATE _honker_live SET worker_id = 'other' WHERE id = 2");
    expect(queue.ackBatch(jobs)).toBe(2);
    expect(jobs.map(({ settled }) => settled)).toEqual([true, false, true]);
    expect(queue.list()).toMatchObject([{ id: 2, state: "processing" }]);
  });

  test(`a job that was retried on another transaction may have its next holder by then, ${file ? "on a file" : "in memory"}`, () => {
    using db = database({ file });
    const job = one(db);
    const seen = events(db);
    db.sqlite.run("BEGIN IMMEDIATE");
    job.retry({ tx: db.sqlite, delay: 0 });
    db.sqlite.run("COMMIT");
    db.sqlite.run("UPDATE _honker_live SET state = 'processing', worker_id = 'other', attempts = 2");
    expect(job.settled).toBe(true);
    expect(seen).toEqual(["job:retried"]);
    expect(job.signal.aborted).toBe(false);
  });
}

test("a job whose end nobody can read is lost, and the process lives", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  const job = one(db);
  const { signal } = job;
  using mine = new Database(folder.file());
  mine.run("BEGIN IMMEDIATE");
  job.ack({ tx: mine });
  mine.run("COMMIT");
  db.close(); // before it is decided
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(job.settled).toBe(false);
  expect(signal.aborted).toBe(true);
});

describe("an iterator that several consumers share", () => {
  test("renews what each of them works on, and leaves nothing claimed when it is returned", async () => {
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const unsettled: unknown[] = [];
    using _ = db.on("job:unsettled", ({ id }) => void unsettled.push(id));
    const queue = db.queue<number>("q", { visibilityTimeout: "30s" });
    queue.enqueueMany([1, 2, 3]);
    const jobs = queue.claim();
    const [first, second] = await within(Promise.all([jobs.next(), jobs.next()]), "both have a job");
    first.value.ack();
    const third = await within(jobs.next(), "one has another");
    expect(unsettled).toEqual([]); // the other consumer is still at work
    const expiry = (id: number): unknown =>
      db.sqlite.query("SELECT claim_expires_at AS at FROM _honker_live WHERE id = ?").get(id);
    const before = expiry(second.value.id);
    db.clock.advance("10s");
    await eventually(() => !Bun.deepEquals(expiry(second.value.id), before), "the other job is renewed");
    await jobs.return?.();
    expect(queue.counts()).toMatchObject({ processing: 0, delayed: 2 });
    expect(unsettled.sort()).toEqual([second.value.id, third.value.id]);
  });
});

describe("a job that a loop's body has forgotten", () => {
  test("does not keep the process alive once the loop has ended", async () => {
    using db = database({ file: true });
    db.queue("q").enqueue(1);
    const controller = new AbortController();
    for await (const _ of db.queue("q").claim({ signal: controller.signal })) controller.abort();
    expect(db.stats().wake.mode).toBe("idle");
  });

  test("has used its attempt, also when the handle is closed then", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2]);
    const jobs = queue.claim();
    await jobs.next();
    await jobs.next(); // the first one is forgotten
    db.close();
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject([
      { state: "processing", attempts: 1 },
      { state: "ready", attempts: 0 },
    ]);
  });
});

test("a listener that closes the handle in the midst of a claim leaves nothing claimed", async () => {
  for (const how of ["claim", "work"] as const) {
    using folder = new Folder();
    const db = open(folder.file());
    const queue = db.queue("q");
    db.sqlite.run("INSERT INTO _honker_live (queue, payload, max_attempts) VALUES ('q', '1', 0)");
    queue.enqueue(2);
    db.on("job:dead", () => db.close());
    if (how === "claim") void queue.claim().next();
    else queue.work(() => new Promise(() => {}));
    await eventually(() => {
      try {
        queue.counts();
        return false;
      } catch {
        return true;
      }
    }, "it is closed");
    using again = open(folder.file());
    expect(again.queue("q").list({ state: "ready" })).toMatchObject([{ payload: 2, attempts: 0 }]);
  }
});

test("close gives jobs back although the application has left a transaction open on db.sqlite", async () => {
  using folder = new Folder();
  const db = open(folder.file());
  db.queue("q").enqueue(1);
  await db.queue("q").claim().next();
  db.sqlite.run("BEGIN IMMEDIATE");
  const start = performance.now();
  db.close();
  expect(performance.now() - start).toBeLessThan(800);
  using again = open(folder.file());
  expect(again.queue("q").list()).toMatchObject([{ state: "ready", attempts: 0 }]);
});
