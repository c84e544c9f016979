import { describe, expect, test } from "bun:test";

import { z } from "zod";

import type { Honkbun } from "../../src/index.ts";
import { database } from "../support/database.ts";

function withDead(db: Honkbun, count: number) {
  const queue = db.queue<number>("q", { maxAttempts: 2 });
  queue.enqueueMany(Array.from({ length: count }, (_, n) => n));
  for (const job of queue.claimBatch(count)) job.fail(new Error(`error ${job.payload}`));
  return queue;
}

const tables = (db: Honkbun): number[] =>
  ["_honker_live", "_honker_dead", "_honkbun_errors", "_honkbun_progress"].map(
    (table) => db.sqlite.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? -1,
  );

describe("dead.list", () => {
  test("gives buried jobs in the order of ids, page by page", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const queue = withDead(db, 5);
    db.queue("other").enqueue(1);
    db.queue("other").claimBatch(1)[0]?.fail("not mine");
    expect(queue.dead.list({ limit: 2 })).toEqual([
      {
        id: 1,
        payload: 0,
        attempts: 1,
        diedAt: new Date("2030-01-01T00:00:00Z"),
        errors: [
          {
            attempt: 1,
            message: "error 0",
            stack: expect.stringContaining("error 0"),
            at: new Date("2030-01-01T00:00:00Z"),
          },
        ],
      },
      expect.objectContaining({ id: 2 }),
    ]);
    expect(queue.dead.list({ after: 3 }).map(({ id }) => id)).toEqual([4, 5]);
    expect(() => queue.dead.list({ limit: 0 })).toThrow(RangeError);
    expect(() => queue.dead.list({ state: "dead" } as never)).toThrow("dead.list: unknown option state");
  });

  test("shows what could not be read as it is stored, and why it was buried", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.object({ n: z.number() }) });
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload) VALUES ('q', 'oops'), ('q', '{"n":"x"}')`);
    queue.claimBatch(1);
    expect(queue.dead.list() as unknown[]).toMatchObject([
      { payload: "oops", errors: [{ attempt: 1, message: expect.stringContaining("is not JSON") }] },
      { payload: { n: "x" }, errors: [{ message: expect.stringContaining("does not fit the schema") }] },
    ]);
  });
});

describe("dead.retry", () => {
  test("makes buried jobs ready again, with all their attempts, under their ids", () => {
    using db = database();
    const queue = withDead(db, 3);
    db.clock.advance("1h");
    expect(queue.dead.retry([1, 3, 99])).toBe(2);
    expect(queue.dead.list().map(({ id }) => id)).toEqual([2]);
    expect(queue.get(1)).toMatchObject({
      state: "ready",
      runAt: new Date(db.clock.now),
      errors: [{ message: "error 0" }],
    });
    const jobs = queue.claimBatch(9);
    expect(jobs).toMatchObject([
      { id: 1, payload: 0, attempt: 1, maxAttempts: 2 },
      { id: 3, payload: 2, attempt: 1, maxAttempts: 2 },
    ]);
    expect(queue.ackBatch(jobs)).toBe(2);
    expect(queue.dead.retry("all")).toBe(1);
    queue.claimBatch(9)[0]?.ack();
    expect(tables(db)).toEqual([0, 0, 0, 0]); // the errors went with the jobs
  });

  test("leaves other queues alone", () => {
    using db = database();
    const queue = withDead(db, 1);
    expect([db.queue("other").dead.retry([1]), db.queue("other").dead.retry("all")]).toEqual([0, 0]);
    expect(queue.dead.list()).toHaveLength(1);
  });

  test("runs a job again that has expired", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueue(1, { expiresIn: "1s" });
    db.clock.advance("1h");
    expect(queue.claimBatch(1)).toEqual([]);
    expect(queue.dead.list()).toMatchObject([{ attempts: 0, errors: [{ attempt: 0, message: "expired" }] }]);
    queue.dead.retry("all");
    expect(queue.claimBatch(1)).toHaveLength(1);
  });

  test("and purge commit with the open transaction", () => {
    using db = database();
    const queue = withDead(db, 2);
    expect(() =>
      db.transaction(() => {
        expect([queue.dead.retry([1]), queue.dead.purge([2])]).toEqual([1, 1]);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.dead.list().map(({ errors }) => errors.length)).toEqual([1, 1]);
  });
});

describe("dead.purge", () => {
  test("deletes all, some, or the old ones, with their errors and progress", () => {
    using db = database();
    const queue = withDead(db, 3);
    db.clock.advance("1h");
    queue.enqueue(9);
    const [job] = queue.claimBatch(1);
    job?.progress(1);
    job?.fail("late");
    expect(queue.dead.purge({ olderThan: "1h" })).toBe(0);
    db.clock.advance("1s");
    expect(queue.dead.purge([1, 99])).toBe(1);
    expect(queue.dead.purge({ olderThan: "1h" })).toBe(2);
    expect(tables(db)).toEqual([0, 1, 1, 1]);
    expect(db.queue("other").dead.purge("all")).toBe(0);
    expect(queue.dead.purge("all")).toBe(1);
    expect(tables(db)).toEqual([0, 0, 0, 0]);
  });

  test("does nothing by mistake", () => {
    using db = database();
    const queue = withDead(db, 1);
    for (const which of [undefined, null, {}, 1, "one", ["1"], [0.5]]) {
      expect(() => queue.dead.purge(which as never)).toThrow(TypeError);
      expect(() => queue.dead.retry(which as never)).toThrow(TypeError);
    }
    expect(() => queue.dead.purge({ olderThan: "old" as never })).toThrow("dead.purge: olderThan");
    expect(queue.dead.list()).toHaveLength(1);
  });
});

test("nothing is left of what a buried job was, once it is retried or purged", () => {
  using db = database();
  const queue = db.queue<number>("q", { keepResult: "1h" });
  const buried = (): unknown[] => db.sqlite.query("SELECT id FROM _honkbun_buried").all();
  const ids = queue.enqueueMany([1, 2], { group: "g", uniqueFor: "1s", uniqueKey: "k", onDuplicate: "keep" });
  queue.enqueueMany([3, 4], (n) => ({ uniqueKey: `k${n}` }));
  for (let n = 0; n < 4; n++) queue.claimBatch(1)[0]?.fail("no");
  expect(buried()).toHaveLength(3);
  expect(queue.dead.retry([ids[0] ?? 0])).toBe(1);
  queue.dead.purge("all");
  expect(buried()).toEqual([]);
  const [job] = db.queue<number>("q").claimBatch(1); // of a handle that keeps no results
  job?.ack({ result: "kept" });
  expect(queue.get(ids[0] ?? 0)).toMatchObject({ state: "completed", result: "kept" });
});
