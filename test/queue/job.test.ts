import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import {
  ClaimLostError,
  type Honkbun,
  JobSettledError,
  open,
  PayloadError,
  type QueueOptions,
} from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const rows = (db: Honkbun, table: string): unknown[] => db.sqlite.query(`SELECT * FROM ${table}`).all();

function claimOne(db: Honkbun, options?: QueueOptions) {
  const queue = db.queue<string>("q", options);
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

describe("job.snooze", () => {
  test("makes the job due again after the delay, as if the attempt had not been", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.400Z") });
    const { queue, job } = claimOne(db, { maxAttempts: 1 });
    job.snooze(1_250);
    expect(job.settled).toBe(true);
    db.clock.advance(1_249);
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance(1);
    expect(queue.claimBatch(1)).toMatchObject([{ id: job.id, attempt: 1 }]);
  });

  test("with 0 gives the job back where it stood", () => {
    using db = database();
    const queue = db.queue("q");
    const first = queue.enqueue("first");
    db.clock.advance(5);
    queue.enqueue("second");
    queue.claimBatch(1)[0]?.snooze(0);
    expect(queue.claimBatch(1)).toMatchObject([{ id: first, attempt: 1 }]);
  });
});

describe("job.heartbeat", () => {
  test("lets the claim hold for the visibility timeout, or for what is given, from now", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const { queue, job } = claimOne(db, { visibilityTimeout: "10s" });
    db.clock.advance("9s");
    job.heartbeat();
    db.clock.advance("10s");
    expect(queue.claimBatch(1)).toEqual([]);
    job.heartbeat("1h");
    job.heartbeat("5s"); // never less than it is
    db.clock.advance("1h");
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance("1s");
    expect(queue.claimBatch(1)).toHaveLength(1);
    expect(() => job.heartbeat()).toThrow(ClaimLostError);
    expect(job.signal.reason).toBeInstanceOf(ClaimLostError);
  });

  test("holds again a job whose claim was freed, while nobody has taken it", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    for (const payload of ["first", "second"]) queue.enqueue(payload);
    const [first, second] = queue.claimBatch(2);
    db.clock.advance("12s");
    expect(queue.claimBatch(1)).toMatchObject([{ id: first?.id }]); // frees both, takes one
    second?.heartbeat();
    expect(queue.claimBatch(1)).toEqual([]);
    second?.ack();
    expect(rows(db, "_honker_live")).toMatchObject([{ id: first?.id }]);
  });

  test("refuses what is no duration, and a settled job", () => {
    using db = database();
    const { job } = claimOne(db);
    expect(() => job.heartbeat(0)).toThrow(RangeError);
    expect(() => job.heartbeat("soon" as never)).toThrow("heartbeat: extend");
    job.ack();
    expect(() => job.heartbeat()).toThrow(JobSettledError);
  });
});

describe("job.progress", () => {
  test("is kept with the job, whatever JSON it is, until the job is gone", () => {
    using db = database();
    const { queue, job } = claimOne(db, { maxAttempts: 2 });
    for (const value of [0.5, "half", { percent: 50 }, [null], undefined]) {
      job.progress(value);
      expect(queue.get(job.id)?.progress).toEqual(value ?? null);
    }
    job.progress("half");
    job.retry({ delay: 0 });
    const [again] = queue.claimBatch(1);
    expect(queue.get(job.id)).toMatchObject({ progress: "half", attempts: 2 });
    again?.ack();
    expect([rows(db, "_honkbun_progress"), rows(db, "_honkbun_errors")]).toEqual([[], []]);
  });

  test("commits with the open transaction", () => {
    using db = database();
    const { queue, job } = claimOne(db);
    expect(() =>
      db.transaction(() => {
        job.progress(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.get(job.id)?.progress).toBeNull();
  });

  test("is refused to a holder whose job was taken over, and to what JSON cannot hold", () => {
    using db = database();
    const { queue, job } = claimOne(db, { visibilityTimeout: "10s" });
    expect(() => job.progress(1n)).toThrow(PayloadError);
    db.clock.advance("12s");
    const [taken] = queue.claimBatch(1);
    taken?.progress("mine");
    expect(() => job.progress("theirs")).toThrow(ClaimLostError);
    expect(queue.get(job.id)?.progress).toBe("mine");
    taken?.ack();
    expect(() => taken?.progress(1)).toThrow(JobSettledError);
  });
});

describe("a result", () => {
  test("is kept with the completed job for as long as the queue says", () => {
    using db = database();
    const { queue, job } = claimOne(db, { keepResult: "1h" });
    job.ack({ result: { n: 1 } });
    expect(rows(db, "_honker_live")).toEqual([]);
    expect(queue.get(job.id)).toMatchObject({ state: "completed", payload: "payload", result: { n: 1 } });
    expect(rows(db, "_honker_results")).toMatchObject([{ job_id: job.id, value: '{"n":1}' }]);
    db.clock.advance("1h");
    db.clock.advance("1s");
    queue.claimBatch(1);
    expect(queue.get(job.id)).toBeNull();
    for (const table of ["_honkbun_completed", "_honker_results", "_honkbun_errors", "_honkbun_progress"])
      expect(rows(db, table)).toEqual([]);
  });

  test("is kept by what was said at enqueue, whoever runs the job; else by what its worker says", () => {
    using db = database();
    const keeps = db.queue("q", { keepResult: true });
    const plain = db.queue("q");
    const first = keeps.enqueue(1);
    plain.claimBatch(1)[0]?.ack({ result: "kept" });
    const second = plain.enqueue(2);
    keeps.claimBatch(1)[0]?.ack({ result: "kept too" });
    const third = plain.enqueue(3);
    plain.claimBatch(1)[0]?.ack({ result: "lost" });
    expect([first, second, third].map((id) => plain.get(id)?.result)).toEqual([
      "kept",
      "kept too",
      undefined,
    ]);
    db.clock.advance("1000d");
    plain.claimBatch(1);
    expect(plain.get(first)?.result).toBe("kept"); // true: for ever
  });

  test("is undone with the ack that it came with", () => {
    using db = database();
    const { queue, job } = claimOne(db, { keepResult: true });
    expect(() =>
      db.transaction(() => {
        job.ack({ result: 1 });
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.get(job.id)).toMatchObject({ state: "processing" });
    expect([rows(db, "_honkbun_completed"), rows(db, "_honker_results")]).toEqual([[], []]);
  });

  test("fits its schema, or the job stays unsettled", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.null(), result: z.object({ n: z.number() }), keepResult: true });
    queue.enqueue(null);
    const [job] = queue.claimBatch(1);
    expect(() => job?.ack({ result: { n: "x" } as never })).toThrow(PayloadError);
    expect(job?.settled).toBe(false);
    job?.ack({ result: { n: 1 } });
    expect(queue.list({ state: "completed" })).toMatchObject([{ result: { n: 1 } }]);
  });
});

describe("ackBatch", () => {
  test("acks every job that is still held, and returns how many", () => {
    using db = database();
    const queue = db.queue<number>("q", { visibilityTimeout: "10s" });
    queue.enqueueMany([0, 1, 2, 3, 4]);
    const jobs = [...queue.claimBatch(3), ...queue.claimBatch(2)];
    queue.cancel(jobs[1]?.id ?? 0);
    expect(queue.ackBatch(jobs)).toBe(4);
    expect(jobs.map((job) => job.settled)).toEqual([true, false, true, true, true]);
    expect(() => jobs[1]?.ack()).toThrow(ClaimLostError);
    expect(rows(db, "_honker_live")).toEqual([]);
    expect(queue.ackBatch([])).toBe(0);
  });

  test("cleans up after jobs that had failed before, and keeps results", () => {
    using db = database();
    const queue = db.queue<number>("q", { keepResult: true });
    const plain = db.queue<number>("q");
    queue.enqueue(1);
    plain.enqueueMany([2, 3]);
    for (const job of plain.claimBatch(2)) job.retry({ delay: 0, error: "down" });
    const jobs = plain.claimBatch(3);
    jobs[1]?.progress(1);
    expect(plain.ackBatch(jobs)).toBe(3);
    expect(plain.list()).toMatchObject([{ state: "completed", payload: 1, errors: [{ message: "down" }] }]);
    expect(rows(db, "_honkbun_errors")).toHaveLength(1);
    expect(rows(db, "_honkbun_progress")).toEqual([]);
  });

  test("acks none when one was settled before, or when its transaction rolls back", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany([0, 1, 2]);
    const jobs = queue.claimBatch(3);
    expect(() =>
      db.transaction(() => {
        expect(queue.ackBatch(jobs)).toBe(3);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(jobs.map((job) => job.settled)).toEqual([false, false, false]);
    jobs[1]?.ack();
    expect(() => queue.ackBatch(jobs)).toThrow(JobSettledError);
    expect(rows(db, "_honker_live")).toHaveLength(2);
    expect(() => queue.ackBatch([{ id: 1 }] as never)).toThrow("jobs must be an array of jobs");
  });

  test("joins a transaction on another handle", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using mine = new Database(folder.file());
    const queue = db.queue<number>("q");
    queue.enqueueMany([0, 1]);
    const jobs = queue.claimBatch(2);
    mine.run("BEGIN IMMEDIATE");
    expect(queue.ackBatch(jobs, { tx: mine })).toBe(2);
    mine.run("ROLLBACK");
    await eventually(() => jobs.every((job) => !job.settled), "it is noticed that it rolled back");
    expect(queue.ackBatch(jobs)).toBe(2);
  });
});

describe("the errors of attempts", () => {
  test("are kept with time and stack, in order, and told with the job and with the dead letter", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.250Z") });
    const queue = db.queue("q", { visibilityTimeout: "10s", maxAttempts: 3 });
    const id = queue.enqueue(1);
    const start = db.clock.now;
    queue.claimBatch(1)[0]?.retry({ delay: "1s", error: new TypeError("first") });
    db.clock.advance("1s");
    queue.claimBatch(1); // its worker vanishes
    db.clock.advance("12s");
    const [last] = queue.claimBatch(1);
    const errors = [
      {
        attempt: 1,
        message: "first",
        stack: expect.stringContaining("TypeError: first"),
        at: new Date(start),
      },
      { attempt: 2, message: expect.stringContaining("the claim expired"), at: new Date(start + 13_000) },
    ];
    expect(queue.get(id)?.errors).toMatchObject(errors);
    last?.fail("third");
    const all = [...errors, { attempt: 3, message: "third", at: new Date(start + 13_000) }];
    expect(queue.get(id)).toMatchObject({ state: "dead", errors: all });
    expect(queue.dead.list()).toMatchObject([{ id, attempts: 3, errors: all }]);
    expect(queue.get(id)?.errors[2]).not.toHaveProperty("stack");
  });

  test("of a worker that vanished in its last attempt are in the dead letter", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s", maxAttempts: 1 });
    queue.enqueue(1);
    queue.claimBatch(1);
    db.clock.advance("12s");
    queue.claimBatch(1);
    expect(queue.dead.list()).toMatchObject([
      { attempts: 1, errors: [{ attempt: 1, message: expect.stringContaining("the claim expired") }] },
    ]);
  });

  test("are forgotten with a job that ends well, also when it ends late", () => {
    using db = database();
    const queue = db.queue<number>("q", { visibilityTimeout: "10s" });
    queue.enqueueMany([1, 2]);
    const jobs = queue.claimBatch(2);
    db.clock.advance("12s");
    db.transaction(() => {
      queue.claimBatch(1)[0]?.snooze("1h"); // frees both
    });
    expect(rows(db, "_honkbun_errors")).toHaveLength(2);
    jobs[1]?.ack();
    expect(rows(db, "_honkbun_errors")).toMatchObject([{ job_id: jobs[0]?.id }]);
  });

  test("of honker's, which keeps the last one only, are told as well", () => {
    using db = database();
    const { queue, job } = claimOne(db);
    job.retry({ delay: 0, error: "ours" });
    // as honker claims and fails
    db.sqlite.run("UPDATE _honker_live SET attempts = 2");
    db.sqlite.run(`INSERT INTO _honker_dead (id, queue, payload, attempts, max_attempts, last_error)
      SELECT id, queue, payload, attempts, max_attempts, 'theirs' FROM _honker_live`);
    db.sqlite.run("DELETE FROM _honker_live");
    const errors = [
      { attempt: 1, message: "ours" },
      { attempt: 2, message: "theirs" },
    ];
    expect(queue.get(job.id)?.errors).toMatchObject(errors);
    expect(queue.dead.list()).toMatchObject([{ errors }]);
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

const SETTLED_WITH = { ack: undefined, retry: undefined, fail: "error", snooze: 5 };

describe("a job", () => {
  const settles = ["ack", "retry", "fail", "snooze"] as const;
  for (const first of settles) {
    for (const second of settles) {
      test(`is settled once: ${second} after ${first}`, () => {
        using db = database();
        const { job } = claimOne(db);
        job[first](SETTLED_WITH[first] as never);
        const before = [rows(db, "_honker_live"), rows(db, "_honker_dead")];
        expect(() => job[second](SETTLED_WITH[second] as never)).toThrow(JobSettledError);
        expect([rows(db, "_honker_live"), rows(db, "_honker_dead")]).toEqual(before);
      });
    }

    test(`that was taken over is not touched by its former holder's ${first}`, () => {
      using db = database();
      const { queue, job } = claimOne(db, { visibilityTimeout: "10s" });
      db.clock.advance("12s");
      const [taken] = queue.claimBatch(1);
      const before = [rows(db, "_honker_live"), rows(db, "_honkbun_errors")];
      expect(() => job[first](SETTLED_WITH[first] as never)).toThrow(ClaimLostError);
      expect([rows(db, "_honker_live"), rows(db, "_honkbun_errors")]).toEqual(before);
      expect(job.settled).toBe(false);
      taken?.ack();
    });
  }
});
