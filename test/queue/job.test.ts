import { describe, expect, test } from "bun:test";

import { ClaimLostError, type Honkbun, JobSettledError, type QueueOptions } from "../../src/index.ts";
import { database } from "../support/database.ts";

const rows = (db: Honkbun, table: string): unknown[] => db.sqlite.query(`SELECT * FROM ${table}`).all();

function claimOne(db: Honkbun, options?: QueueOptions) {
  const queue = db.queue("q", options);
  queue.enqueue("payload");
  const [job] = queue.claimBatch(1);
  if (job === undefined) throw new Error("nothing was claimed");
  return { queue, job };
}

describe("job.ack", () => {
  test("removes the job", () => {
    using db = database();
    const { job } = claimOne(db);
    expect(job.settled).toBe(false);
    job.ack();
    expect(job.settled).toBe(true);
    expect(rows(db, "_honker_live")).toEqual([]);
  });

  test("commits with the application's rows, and is undone with them", () => {
    using db = database();
    db.sqlite.run("CREATE TABLE done (id INTEGER)");
    const { job } = claimOne(db);
    expect(() =>
      db.transaction((tx) => {
        tx.run("INSERT INTO done VALUES (1)");
        job.ack();
        expect(job.settled).toBe(true);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(job.settled).toBe(false);
    db.transaction((tx) => {
      tx.run("INSERT INTO done VALUES (1)");
      job.ack();
    });
    expect([job.settled, rows(db, "done").length, rows(db, "_honker_live").length]).toEqual([true, 1, 0]);
  });

  test("is undone by the savepoint that it was called in alone", () => {
    using db = database();
    const { job } = claimOne(db);
    db.transaction(() => {
      expect(() =>
        db.transaction(() => {
          job.ack();
          throw new Error("inner");
        }),
      ).toThrow("inner");
      expect(job.settled).toBe(false);
      db.transaction(() => job.ack());
    });
    expect(job.settled).toBe(true);
    expect(rows(db, "_honker_live")).toEqual([]);
  });
});

describe("job.retry", () => {
  test("makes the job due again after the delay, and keeps the error", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.400Z") });
    const { queue, job } = claimOne(db);
    job.retry({ delay: 250, error: new Error("down") });
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance(249);
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance(1);
    expect(queue.claimBatch(1)).toMatchObject([{ id: job.id, attempt: 2, payload: "payload" }]);
    expect(rows(db, "_honkbun_errors")).toMatchObject([
      {
        job_id: job.id,
        attempt: 1,
        message: "down",
        stack: expect.stringContaining("Error: down"),
        at: db.clock.now - 250,
      },
    ]);
  });

  test("waits by the queue's backoff when no delay is given", () => {
    const delays = (options: QueueOptions["backoff"]): number[] => {
      using db = database();
      const queue = db.queue("q", { backoff: options, maxAttempts: 6 });
      queue.enqueue(1);
      return Array.from({ length: 5 }, () => {
        queue.claimBatch(1)[0]?.retry();
        const row = db.sqlite.query<{ due: number }, []>("SELECT due FROM _honker_live").get();
        const delay = (row?.due ?? 0) - db.clock.now;
        db.clock.advance(delay);
        return delay;
      });
    };
    expect(delays({ jitter: 0 })).toEqual([5_000, 10_000, 20_000, 40_000, 80_000]);
    expect(delays({ base: "1m", max: "3m", jitter: 0 })).toEqual([
      60_000, 120_000, 180_000, 180_000, 180_000,
    ]);
    expect(delays({ type: "linear", base: 10, jitter: 0 })).toEqual([10, 20, 30, 40, 50]);
    expect(delays({ type: "fixed", base: "1s", jitter: 0 })).toEqual([1_000, 1_000, 1_000, 1_000, 1_000]);
    for (const delay of delays({ base: "1m", max: "1m", jitter: 1 }))
      expect(delay).toBeLessThanOrEqual(60_000);
    expect(delays((attempt) => attempt ** 3)).toEqual([1, 8, 27, 64, 125]);
    for (const [index, delay] of delays(undefined).entries()) {
      expect(delay).toBeWithin(5_000 * 2 ** index * 0.8, 5_000 * 2 ** index * 1.2 + 1);
    }
  });

  test("buries the job with its error when that was its last attempt", () => {
    using db = database();
    const { queue, job } = claimOne(db, { maxAttempts: 1 });
    job.retry({ error: new Error("down") });
    expect(rows(db, "_honker_live")).toEqual([]);
    expect(rows(db, "_honker_dead")).toMatchObject([
      { id: job.id, queue: "q", payload: '"payload"', attempts: 1, max_attempts: 1, last_error: "down" },
    ]);
    db.clock.advance("1d");
    expect(queue.claimBatch(1)).toEqual([]);
  });
});

describe("job.fail", () => {
  test("buries the job whatever attempts are left, and keeps the error", () => {
    using db = database();
    const { job } = claimOne(db, { maxAttempts: 9 });
    job.fail("no such user");
    expect(rows(db, "_honker_live")).toEqual([]);
    expect(rows(db, "_honker_dead")).toMatchObject([
      { id: job.id, attempts: 1, max_attempts: 9, last_error: "no such user" },
    ]);
    expect(rows(db, "_honkbun_errors")).toMatchObject([
      { job_id: job.id, message: "no such user", stack: null },
    ]);
  });
});

describe("a job", () => {
  const settles = ["ack", "retry", "fail"] as const;
  for (const first of settles) {
    for (const second of settles) {
      test(`is settled once: ${second} after ${first}`, () => {
        using db = database();
        const { job } = claimOne(db);
        job[first](undefined as never);
        const before = [rows(db, "_honker_live"), rows(db, "_honker_dead")];
        expect(() => job[second](undefined as never)).toThrow(JobSettledError);
        expect([rows(db, "_honker_live"), rows(db, "_honker_dead")]).toEqual(before);
      });
    }

    test(`that was taken over is not touched by its former holder's ${first}`, () => {
      using db = database();
      const { queue, job } = claimOne(db, { visibilityTimeout: "10s" });
      db.clock.advance("12s");
      const [taken] = queue.claimBatch(1);
      const before = rows(db, "_honker_live");
      expect(() => job[first](undefined as never)).toThrow(ClaimLostError);
      expect(rows(db, "_honker_live")).toEqual(before);
      expect(rows(db, "_honkbun_errors")).toEqual([]);
      expect(job.settled).toBe(false);
      taken?.ack();
    });
  }
});
