import { describe, expect, test } from "bun:test";

import { z } from "zod";

import type { Honkbun } from "../../src/index.ts";
import { Inspection } from "../../src/queue/inspection.ts";
import { Connection } from "../../src/sqlite/connection.ts";
import type { Pool } from "../../src/sqlite/pool.ts";
import { database } from "../support/database.ts";

/** One job of each state that a queue of ours can show. */
function oneOfEach(db: Honkbun) {
  const queue = db.queue<string>("q", { keepResult: true });
  const [ready, delayed, processing, completed, dead] = [
    queue.enqueue("ready", { priority: -1 }),
    queue.enqueue("delayed", { delay: "1h" }),
    queue.enqueue("processing"),
    queue.enqueue("completed"),
    queue.enqueue("dead"),
  ];
  const [, second, third] = queue.claimBatch(3);
  second?.ack({ result: { n: 1 } });
  third?.fail(new Error("bad"));
  db.queue("other").enqueue("not mine");
  return { queue, ids: { ready, delayed, processing, completed, dead } };
}

describe("get", () => {
  test("tells what is known of a job, in each of its states", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.500Z") });
    const { queue, ids } = oneOfEach(db);
    const common = {
      queue: "q",
      maxAttempts: 3,
      progress: null,
      enqueuedAt: new Date("2030-01-01T00:00:00Z"),
    };
    expect(queue.get(ids.ready)).toEqual({
      ...common,
      id: ids.ready,
      state: "ready",
      payload: "ready",
      attempts: 0,
      priority: -1,
      runAt: new Date("2030-01-01T00:00:00.500Z"),
      errors: [],
    });
    expect(queue.get(ids.delayed)).toMatchObject({
      state: "delayed",
      runAt: new Date("2030-01-01T01:00:00.500Z"),
    });
    expect(queue.get(ids.processing)).toMatchObject({ ...common, state: "processing", attempts: 1 });
    expect(queue.get(ids.completed)).toMatchObject({
      ...common,
      state: "completed",
      result: { n: 1 },
      attempts: 1,
    });
    expect(queue.get(ids.dead)).toMatchObject({
      ...common,
      state: "dead",
      payload: "dead",
      errors: [
        {
          attempt: 1,
          message: "bad",
          stack: expect.stringContaining("Error: bad"),
          at: new Date(db.clock.now),
        },
      ],
    });
    db.clock.advance("1h");
    expect(queue.get(ids.delayed)).toMatchObject({ state: "ready" });
  });

  test("knows nothing of jobs that never were, that left nothing, or that are another queue's", () => {
    using db = database();
    const queue = db.queue("q");
    const id = queue.enqueue(1);
    expect(db.queue("other").get(id)).toBeNull();
    expect(queue.get(99)).toBeNull();
    queue.ackBatch(queue.claimBatch(1));
    expect(queue.get(id)).toBeNull();
  });

  test("sees what the open transaction has written, and it alone", () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    expect(() =>
      db.transaction(() => {
        const id = queue.enqueue(1);
        expect(queue.get(id)).toMatchObject({ state: "ready" });
        expect(queue.counts().ready).toBe(1);
        expect(queue.list()).toHaveLength(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect([queue.get(1), queue.counts().ready, queue.list()]).toEqual([null, 0, []]);
    db.sqlite.run("BEGIN IMMEDIATE"); // not ours: it may be anybody's
    db.sqlite.run("INSERT INTO _honker_live (queue, payload) VALUES ('q', '1')");
    expect([queue.get(1), queue.counts().ready, queue.list()]).toEqual([null, 0, []]);
    db.sqlite.run("ROLLBACK");
  });

  test("yields the schema's output, and what does not fit as it is stored", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.object({ at: z.coerce.date() }) });
    queue.enqueue({ at: new Date(0) });
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload) VALUES ('q', '{"at":"x"}'), ('q', 'oops')`);
    expect(queue.list().map(({ payload }) => payload as unknown)).toEqual([
      { at: new Date(0) },
      { at: "x" },
      "oops",
    ]);
  });
});

describe("list", () => {
  test("gives the jobs of a state, or of all, in the order of ids", () => {
    using db = database();
    const { queue, ids } = oneOfEach(db);
    for (const [state, id] of Object.entries(ids)) {
      expect(queue.list({ state: state as never })).toMatchObject([{ id, state }]);
    }
    expect(queue.list({ state: "blocked" })).toEqual([]);
    expect(queue.list().map(({ id }) => id)).toEqual(Object.values(ids));
  });

  test("gives one page after the other", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueueMany(
      Array.from({ length: 25 }, (_, n) => n),
      (n) => ({ priority: n % 3, delay: n % 2 ? 0 : "1h" }),
    );
    for (const state of ["ready", undefined] as const) {
      const seen: number[] = [];
      for (let after = 0; ;) {
        const page = queue.list({ state, limit: 4, after });
        seen.push(...page.map(({ id }) => id));
        if (page.length < 4) break;
        after = page.at(-1)?.id ?? 0;
      }
      expect(seen).toEqual(
        Array.from({ length: 25 }, (_, n) => n + 1).filter((id) => state === undefined || id % 2 === 0),
      );
    }
    expect(queue.list()).toHaveLength(25);
    queue.enqueueMany(Array.from({ length: 100 }, (_, n) => n));
    expect(queue.list()).toHaveLength(100);
  });

  test("refuses what it does not know", () => {
    using db = database();
    const queue = db.queue("q");
    expect(() => queue.list({ state: "waiting" as never })).toThrow('there is no state "waiting"');
    expect(() => queue.list({ limit: 0 })).toThrow(RangeError);
    expect(() => queue.list({ limt: 1 } as never)).toThrow("unknown option limt");
    expect(() => queue.get("1" as never)).toThrow("get: id must be a job's id");
  });
});

describe("counts", () => {
  test("counts each state, of this queue alone", () => {
    using db = database();
    const { queue } = oneOfEach(db);
    expect(queue.counts()).toEqual({
      ready: 1,
      delayed: 1,
      processing: 1,
      blocked: 0,
      completed: 1,
      dead: 1,
    });
    expect(db.queue("empty").counts()).toEqual({
      ready: 0,
      delayed: 0,
      processing: 0,
      blocked: 0,
      completed: 0,
      dead: 0,
    });
  });

  for (const file of [false, true]) {
    test(`are counted anew after each commit, and as jobs become ready, ${file ? "on a file" : "in memory"}`, () => {
      using db = database({ file });
      const queue = db.queue("q");
      queue.enqueue(1, { delay: "1h" });
      queue.enqueue(2, { delay: "2h", priority: 1 });
      const { ready, delayed } = queue.counts();
      expect([ready, delayed]).toEqual([0, 2]);
      db.clock.advance("1h");
      expect(queue.counts()).toMatchObject({ ready: 1, delayed: 1 });
      db.clock.advance("1h");
      expect(queue.counts()).toMatchObject({ ready: 2, delayed: 0 });
      queue.claimBatch(1);
      expect(queue.counts()).toMatchObject({ ready: 1, processing: 1 });
      db.sqlite.run("DELETE FROM _honker_live");
      expect(queue.counts()).toMatchObject({ ready: 0, processing: 0 });
    });
  }

  test("are not counted again while nothing has changed", () => {
    using db = database();
    db.queue("q").enqueue(1);
    let [version, reads] = [1, 0];
    const pool = {
      committedVersion: () => version,
      read<T>(fn: (connection: Connection) => T): T {
        reads++;
        return fn(new Connection(db.sqlite, true));
      },
    } as unknown as Pool;
    const inspection = new Inspection(pool, () => db.clock.now, "q", {
      schema: undefined,
      resultSchema: undefined,
    });
    inspection.counts().ready = -1; // the caller's own copy
    expect([inspection.counts().ready, reads]).toEqual([1, 1]);
    version++;
    expect([inspection.counts().ready, reads]).toEqual([1, 2]);
  });
});

describe("latency", () => {
  test("is for how long the oldest ready job has been ready", () => {
    using db = database();
    const queue = db.queue("q");
    expect(queue.latency()).toBe(0);
    queue.enqueue(1, { delay: "10s" });
    expect(queue.latency()).toBe(0);
    db.clock.advance("12.5s");
    queue.enqueue(2, { priority: 9 });
    expect(queue.latency()).toBe(2_500);
    queue.pause(); // nobody claims, and that must show
    expect(queue.latency()).toBe(2_500);
    queue.resume();
    queue.claimBatch(2);
    expect(queue.latency()).toBe(0);
  });
});

describe("looking", () => {
  test("finds jobs of every state when the clock stands at 0", () => {
    using db = database({ now: new Date(0) });
    const queue = db.queue<number>("q", { keepResult: true });
    queue.enqueueMany([1, 2, 3]);
    const [done, dead] = queue.claimBatch(3);
    done?.ack();
    dead?.fail("no");
    for (const state of ["completed", "dead", "processing"] as const) {
      expect(queue.list({ state })).toMatchObject([{ state }]);
    }
  });

  test("counts by the clock also after it went back", () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    queue.enqueue(1, { delay: "1m" });
    db.clock.advance("2m");
    expect(queue.counts()).toMatchObject({ ready: 1, delayed: 0 });
    db.clock.set(new Date(db.clock.now - 120_000));
    expect(queue.counts()).toMatchObject({ ready: 0, delayed: 1 });
  });

  test("sees at once what loops have written", async () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    expect(queue.counts().ready).toBe(0);
    await queue.enqueueAsync(1);
    expect(queue.counts().ready).toBe(1);
  });
});
