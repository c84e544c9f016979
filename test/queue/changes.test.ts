import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { ClaimLostError, open, PayloadError } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

describe("update", () => {
  test("changes payload, time and priority of a job that is not claimed", () => {
    using db = database();
    const queue = db.queue<string>("q");
    const [first, second, third] = queue.enqueueMany(["first", "second", "third"], { delay: "1h" });
    const at = new Date(db.clock.now + 1_234);
    expect(queue.update(first ?? 0, { payload: "changed" })).toBe(true);
    expect(queue.update(second ?? 0, { runAt: at, priority: 5 })).toBe(true);
    expect(queue.update(third ?? 0, { runAt: db.clock.now })).toBe(true); // promotes
    expect(queue.get(first ?? 0)).toMatchObject({ payload: "changed", priority: 0, state: "delayed" });
    expect(queue.get(second ?? 0)).toMatchObject({ payload: "second", priority: 5, runAt: at });
    expect(queue.claimBatch(9).map((job) => job.payload)).toEqual(["third"]);
  });

  test("leaves alone what is claimed, gone, or another queue's", () => {
    using db = database();
    const queue = db.queue("q");
    const id = queue.enqueue(1);
    expect(db.queue("other").update(id, { priority: 1 })).toBe(false);
    const [job] = queue.claimBatch(1);
    expect(queue.update(id, { priority: 1 })).toBe(false);
    job?.ack();
    expect(queue.update(id, { priority: 1 })).toBe(false);
  });

  test("is not lost to a former holder whose claim has expired", () => {
    using db = database();
    const queue = db.queue<string>("q", { visibilityTimeout: "10s" });
    const id = queue.enqueue("old");
    const [job] = queue.claimBatch(1);
    db.clock.advance("12s");
    queue.pause();
    queue.claimBatch(1); // frees the job
    expect(queue.update(id, { payload: "new" })).toBe(true);
    queue.resume();
    expect(() => job?.ack()).toThrow(ClaimLostError);
    expect(queue.claimBatch(1)).toMatchObject([{ payload: "new" }]);
  });

  test("wakes a loop that waits for the job", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    const id = queue.enqueue(1, { delay: "1h" });
    const next = queue.claim().next();
    queue.update(id, { runAt: db.clock.now });
    expect((await next).value.id).toBe(id);
  });

  test("refuses bad input before anything is written", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.number() });
    const id = queue.enqueue(1);
    expect(() => queue.update(id, { payload: "x" as never })).toThrow(PayloadError);
    expect(() => queue.update(id, { priority: 0.5 })).toThrow("update: priority must be an integer");
    expect(() => queue.update(id, { runAt: new Date("x") })).toThrow("update: runAt");
    expect(() => queue.update(id, { delay: 5 } as never)).toThrow("update: unknown option delay");
    expect(queue.get(id)).toMatchObject({ payload: 1, priority: 0 });
  });
});

describe("cancel", () => {
  test("ends a job in whatever state, and it is remembered as cancelled", () => {
    using db = database();
    const queue = db.queue<string>("q");
    const ids = queue.enqueueMany(["processing", "ready", "delayed"], (p) =>
      p === "delayed" ? { delay: 9 } : {},
    );
    const [job] = queue.claimBatch(1);
    for (const id of ids) expect(queue.cancel(id)).toBe(true);
    for (const id of ids) expect(queue.cancel(id)).toBe(false);
    expect(db.sqlite.query("SELECT * FROM _honker_live").all()).toEqual([]);
    expect(() => job?.ack()).toThrow(ClaimLostError);
    expect(queue.get(ids[1] ?? 0)).toMatchObject({
      state: "dead",
      payload: "ready",
      errors: [{ attempt: 0, message: "cancelled", at: new Date(db.clock.now) }],
    });
    expect([queue.dead.list(), queue.counts().dead]).toEqual([[], 0]); // it has not failed
  });

  test("leaves alone what has ended, or is another queue's", () => {
    using db = database();
    const queue = db.queue("q");
    const [done, dead, other] = [queue.enqueue(1), queue.enqueue(2), db.queue("other").enqueue(3)];
    const [first, second] = queue.claimBatch(2);
    first?.ack();
    second?.fail("x");
    for (const id of [done, dead, other, 99]) expect(queue.cancel(id)).toBe(false);
    expect(queue.get(dead)).toMatchObject({ state: "dead", errors: [{ message: "x" }] });
  });

  test("commits with the transaction that it joins", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using mine = new Database(folder.file());
    const queue = db.queue("q");
    const id = queue.enqueue(1);
    mine.run("BEGIN IMMEDIATE");
    expect(queue.cancel(id, { tx: mine })).toBe(true);
    mine.run("ROLLBACK");
    expect(queue.get(id)).toMatchObject({ state: "ready" });
    expect(() =>
      db.transaction(() => {
        queue.cancel(id);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.get(id)).toMatchObject({ state: "ready" });
  });

  test("is forgotten after a day, with all that was kept of the job", () => {
    using db = database();
    const queue = db.queue("q");
    const id = queue.enqueue(1);
    const [job] = queue.claimBatch(1);
    job?.progress(1);
    job?.retry({ delay: 0, error: "x" });
    queue.cancel(id);
    db.clock.advance("1d");
    queue.claimBatch(1);
    expect(queue.get(id)).toMatchObject({
      progress: 1,
      errors: [{ message: "x" }, { message: "cancelled" }],
    });
    db.clock.advance("1s");
    queue.claimBatch(1);
    expect(queue.get(id)).toBeNull();
    for (const table of ["_honkbun_cancelled", "_honkbun_errors", "_honkbun_progress"])
      expect(db.sqlite.query(`SELECT * FROM ${table}`).all()).toEqual([]);
  });
});

describe("clear", () => {
  test("cancels every job of the queue that is not claimed", () => {
    using db = database();
    const queue = db.queue<string>("q");
    queue.enqueueMany(["processing", "ready", "delayed"], (p) => (p === "delayed" ? { delay: 9 } : {}));
    db.sqlite.run("INSERT INTO _honker_live (queue, payload, state) VALUES ('q', '1', 'blocked')");
    db.queue("other").enqueue(1);
    const [job] = queue.claimBatch(1);
    expect(queue.clear()).toBe(3);
    expect(queue.counts()).toMatchObject({ ready: 0, delayed: 0, blocked: 0, processing: 1 });
    expect(db.queue("other").counts().ready).toBe(1);
    expect(queue.get(2)).toMatchObject({ errors: [{ message: "cancelled" }] });
    job?.ack();
    expect(queue.clear()).toBe(0);
  });
});

describe("pause", () => {
  test("lets nobody claim until resume, in whatever process, and is stored in the file", () => {
    using folder = new Folder();
    using one = open(folder.file());
    one.queue("q").enqueue(1);
    one.queue("other").enqueue(2);
    const paused = open(folder.file());
    paused.queue("q").pause();
    paused.queue("q").pause();
    paused.close();
    expect(one.queue("q").claimBatch(1)).toEqual([]);
    expect(one.queue("other").claimBatch(1)).toHaveLength(1);
    using two = open(folder.file());
    two.queue("q").resume();
    expect(one.queue("q").claimBatch(1)).toHaveLength(1);
    two.queue("q").resume();
  });

  for (const file of [false, true]) {
    test(`holds loops, and resume wakes them, ${file ? "on a file" : "in memory"}`, async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      const seen: number[] = [];
      void (async () => {
        for await (const job of queue.claim()) {
          seen.push(job.payload);
          job.ack();
        }
      })();
      queue.enqueue(1);
      await eventually(() => seen.length === 1, "the loop runs");
      queue.pause();
      queue.enqueue(2);
      queue.enqueue(3, { delay: "1m" });
      db.clock.advance("1h");
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(seen).toEqual([1]);
      queue.resume();
      await eventually(() => seen.length === 3, "the loop goes on");
    });
  }

  test("lets claimed jobs be settled, and frees what has expired", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueueMany([1, 2]);
    const [job] = queue.claimBatch(2);
    queue.pause();
    job?.ack();
    db.clock.advance("12s");
    expect(queue.claimBatch(1)).toEqual([]);
    expect(queue.counts()).toMatchObject({ ready: 1, processing: 0 });
  });

  test("joins a transaction", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue(1);
    expect(() =>
      db.transaction(() => {
        queue.pause();
        expect(queue.claimBatch(1)).toEqual([]);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.claimBatch(1)).toHaveLength(1);
  });
});
