import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, type Job, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const payloads = (jobs: Job<unknown>[]): unknown[] => jobs.map((job) => job.payload);
const rows = (db: Honkbun, table: string): unknown[] => db.sqlite.query(`SELECT * FROM ${table}`).all();

describe("claimBatch", () => {
  test("claims by priority, then due time to the millisecond, then id", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.500Z") });
    const queue = db.queue("q");
    queue.enqueue("third", { delay: 7 });
    queue.enqueue("second", { delay: 3 });
    queue.enqueue("fourth", { delay: 7 });
    queue.enqueue("first", { priority: 1, delay: 9 });
    queue.enqueue("last", { priority: -1 });
    queue.enqueue("not yet", { priority: 100, delay: 10 });
    db.clock.advance(9);
    expect(payloads(queue.claimBatch(2))).toEqual(["first", "second"]);
    expect(payloads(queue.claimBatch(9))).toEqual(["third", "fourth", "last"]);
    expect(queue.claimBatch(9)).toEqual([]);
  });

  test("claims a job in the very millisecond it is due, not before", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.001Z") });
    const queue = db.queue("q");
    queue.enqueue(1, { delay: 1_500 });
    queue.enqueue(2, { runAt: new Date("2030-01-01T00:00:01.501Z") });
    db.clock.advance(1_499);
    expect(queue.claimBatch(9)).toEqual([]);
    db.clock.advance(1);
    expect(payloads(queue.claimBatch(9))).toEqual([1, 2]);
  });

  test("goes by run_at where somebody else has moved a job", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.900Z") });
    const queue = db.queue("q");
    queue.enqueue(1);
    db.sqlite.run("UPDATE _honker_live SET run_at = run_at + 60"); // as honker retries
    expect(queue.claimBatch(9)).toEqual([]);
    db.clock.advance("60s");
    expect(payloads(queue.claimBatch(9))).toEqual([1]);
  });

  test("claims a job that plain SQL has inserted", () => {
    using db = database();
    db.sqlite.run("INSERT INTO _honker_live (queue, payload) VALUES ('q', '{\"a\":1}')");
    expect(db.queue("q").claimBatch(9)).toMatchObject([
      { payload: { a: 1 }, attempt: 1, maxAttempts: 3, priority: 0 },
    ]);
  });

  test("never hands one job to two claims", () => {
    using folder = new Folder();
    using one = open(folder.file());
    using two = open(folder.file());
    for (let n = 0; n < 100; n++) one.queue("q").enqueue(n);
    const seen = new Set<unknown>();
    for (let n = 0; n < 100; n++) seen.add((n % 2 ? one : two).queue("q").claimBatch(1)[0]?.payload);
    expect(seen.size).toBe(100);
    expect([one.queue("q").claimBatch(1), two.queue("q").claimBatch(1)]).toEqual([[], []]);
  });

  test("gives each claim an identity of its own under the label", () => {
    using db = database();
    for (let n = 0; n < 3; n++) db.queue("q").enqueue(n);
    db.queue("q").claimBatch("mail worker", 1);
    db.queue("q").claimBatch(1, { worker: "mail worker" });
    db.queue("q").claimBatch(1);
    const ids = db.sqlite.query<{ worker_id: string }, []>("SELECT worker_id FROM _honker_live").all();
    expect(new Set(ids.map((row) => row.worker_id)).size).toBe(3);
    expect(ids.map((row) => row.worker_id.split("~")[0])).toEqual([
      "mail worker",
      "mail worker",
      String(process.pid),
    ]);
  });

  test("is undone by a transaction that rolls back", () => {
    using db = database();
    db.queue("q").enqueue(1);
    expect(() =>
      db.transaction(() => {
        expect(db.queue("q").claimBatch(1)).toHaveLength(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(db.queue("q").claimBatch(1)).toMatchObject([{ attempt: 1 }]);
  });

  test("buries what cannot be read, with the reason, and claims the others", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.object({ n: z.number() }) });
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload) VALUES ('q', 'oops'), ('q', '{"n":"x"}')`);
    queue.enqueue({ n: 1 });
    expect(payloads(queue.claimBatch(1))).toEqual([{ n: 1 }]);
    const dead = rows(db, "_honker_dead") as { last_error: string }[];
    expect(dead.map((row) => row.last_error)).toEqual([
      expect.stringContaining("is not JSON"),
      expect.stringContaining("does not fit the schema: n: "),
    ]);
  });
});

describe("a claim that expires", () => {
  test("is claimed again only after the whole visibility timeout, as the next attempt", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.300Z") });
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueue(1);
    queue.claimBatch(1);
    db.clock.advance("10s");
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance("2s"); // stored in whole seconds, rounded up
    expect(queue.claimBatch(1)).toMatchObject([{ attempt: 2 }]);
  });

  test("is buried with its last attempt, so that nothing stays in processing", () => {
    using db = database();
    const queue = db.queue("q", { maxAttempts: 2, visibilityTimeout: "10s" });
    queue.enqueue(1);
    for (let attempt = 1; attempt <= 2; attempt++) {
      expect(queue.claimBatch(1)).toMatchObject([{ attempt }]);
      db.clock.advance("12s");
    }
    expect(queue.claimBatch(1)).toEqual([]);
    expect(rows(db, "_honker_live")).toEqual([]);
    expect(rows(db, "_honker_dead")).toMatchObject([
      { id: 1, attempts: 2, last_error: "max attempts exceeded" },
    ]);
  });

  test("still counts when its holder finishes before anybody takes over", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueue(1);
    const [job] = queue.claimBatch(1);
    db.clock.advance("1h");
    job?.ack();
    expect(rows(db, "_honker_live")).toEqual([]);
  });

  test("still counts when it was freed, and nobody has claimed it since", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueue(1);
    queue.enqueue(2);
    const [first, second] = queue.claimBatch(2);
    db.clock.advance("12s");
    expect(payloads(queue.claimBatch(1))).toEqual([1]); // frees both, takes one
    second?.ack();
    expect(() => first?.ack()).toThrow("is lost");
    expect(rows(db, "_honker_live")).toMatchObject([{ payload: "1", state: "processing" }]);
  });

  test("past its job's own expiry is freed as well", () => {
    using db = database();
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueue(1, { expiresIn: "5s" });
    queue.claimBatch(1);
    db.clock.advance("1m");
    expect(queue.claimBatch(1)).toEqual([]);
    expect(rows(db, "_honker_dead")).toMatchObject([{ id: 1, last_error: "expired" }]);
  });
});

describe("an expired job", () => {
  test("is not run, but buried", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue(1, { expiresIn: "5s" });
    queue.enqueue(2, { expiresIn: "2m" });
    db.clock.advance("1m");
    expect(payloads(queue.claimBatch(9))).toEqual([2]);
    expect(rows(db, "_honker_dead")).toMatchObject([{ id: 1, last_error: "expired" }]);
  });

  test("does not hold up the others, however many there are", () => {
    using db = database();
    const queue = db.queue("q");
    db.transaction(() => {
      for (let n = 0; n < 1_200; n++) queue.enqueue("late", { expiresIn: "5s" });
    });
    db.clock.advance("1m");
    queue.enqueue("fresh");
    expect(payloads(queue.claimBatch(1))).toEqual(["fresh"]);
    for (let claims = 0; claims < 3; claims++) queue.claimBatch(1);
    expect(rows(db, "_honker_dead")).toHaveLength(1_200);
  });
});

for (const file of [false, true]) {
  describe(`claim, ${file ? "on a file" : "in memory"}`, () => {
    test("hands out jobs one by one, as they come due", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      const seen: number[] = [];
      const loop = (async () => {
        for await (const job of queue.claim()) {
          seen.push(job.payload);
          job.ack();
        }
      })();
      queue.enqueue(1);
      queue.enqueue(3, { delay: "1h" });
      queue.enqueue(2);
      await eventually(() => seen.length === 2, "what is due is claimed");
      db.clock.advance("59m");
      queue.enqueue(2.5);
      await eventually(() => seen.length === 3, "what comes later is claimed");
      db.clock.advance("1m");
      await eventually(() => seen.length === 4, "the delayed one is claimed when due");
      expect(seen).toEqual([1, 2, 2.5, 3]);
      expect(rows(db, "_honker_live")).toEqual([]);
      db.close();
      await within(loop, "the loop ends with the handle");
    });

    test("claims nothing before it is asked, nor ahead", async () => {
      using db = database({ file });
      db.queue("q").enqueue(1);
      db.queue("q").enqueue(2);
      const jobs = db.queue<number>("q").claim();
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(db.queue("q").claimBatch(1)).toHaveLength(1);
      expect((await jobs.next()).value.payload).toBe(2);
    });

    test("shares the jobs out among several loops", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q");
      const seen: number[] = [];
      for (let loop = 0; loop < 5; loop++) {
        void (async () => {
          for await (const job of queue.claim()) {
            seen.push(job.payload);
            job.ack();
          }
        })();
      }
      for (let n = 0; n < 200; n++) queue.enqueue(n);
      await eventually(() => seen.length === 200, "all are run");
      expect(new Set(seen).size).toBe(200);
    });

    test("retries, with backoff, a job that break or a throwing body left unsettled", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { backoff: { base: "10s", jitter: 0 } });
      queue.enqueue(1);
      for await (const job of queue.claim()) {
        expect(job.attempt).toBe(1);
        break;
      }
      expect(queue.claimBatch(1)).toEqual([]);
      db.clock.advance("10s");
      const thrown = (async () => {
        for await (const job of queue.claim()) {
          expect(job.attempt).toBe(2);
          throw new Error("mine");
        }
      })();
      await expect(thrown).rejects.toThrow("mine");
      db.clock.advance("19s");
      expect(queue.claimBatch(1)).toEqual([]);
      db.clock.advance("1s");
      expect(queue.claimBatch(1)).toMatchObject([{ attempt: 3 }]);
    });

    test("retries a job whose settling was rolled back as the body threw", async () => {
      using folder = new Folder();
      using db = open(folder.file());
      const queue = db.queue<number>("q", { backoff: { base: 0, jitter: 0 } });
      queue.enqueue(1);
      using mine = new Database(folder.file());
      const loop = (async () => {
        for await (const job of queue.claim()) {
          mine.run("BEGIN");
          job.ack({ tx: mine });
          mine.run("ROLLBACK");
          throw new Error("mine");
        }
      })();
      await expect(loop).rejects.toThrow("mine");
      expect(queue.claimBatch(1)).toMatchObject([{ attempt: 2 }]);
    });

    test("leaves a job alone that its body has settled before break", async () => {
      using db = database({ file });
      db.queue("q").enqueue(1);
      for await (const job of db.queue("q").claim()) {
        job.ack();
        break;
      }
      expect(rows(db, "_honker_live")).toEqual([]);
    });

    test("ends by its signal, and detaches", async () => {
      using db = database({ file });
      const controller = new AbortController();
      const jobs = db.queue("q").claim({ signal: controller.signal });
      const next = jobs.next();
      controller.abort();
      expect((await within(next, "the loop ends")).done).toBe(true);
      db.queue("q").enqueue(1);
      expect((await jobs.next()).done).toBe(true);
      await eventually(() => db.stats().wake.mode === "idle", "nobody waits any more");
      expect((await db.queue("q").claim({ signal: AbortSignal.abort() }).next()).done).toBe(true);
      expect(db.queue("q").claimBatch(1)).toHaveLength(1);
    });

    test("gives a job that is claimed as the loop ends back without using an attempt", async () => {
      using db = database({ file });
      db.sqlite.run("CREATE TABLE states (state TEXT)");
      db.sqlite.run(
        "CREATE TRIGGER states AFTER UPDATE ON _honker_live BEGIN INSERT INTO states VALUES (new.state); END",
      );
      db.queue("q").enqueue(1);
      const jobs = db.queue("q").claim();
      const next = jobs.next(); // asks for the claim
      await jobs.return?.();
      expect((await next).done).toBe(true);
      await eventually(() => rows(db, "states").length === 2, "the job was claimed and given back");
      expect(rows(db, "states")).toEqual([{ state: "processing" }, { state: "pending" }]);
      expect(db.queue("q").claimBatch(1)).toMatchObject([{ attempt: 1 }]);
    });

    test("waits while the application holds a transaction open, and then goes on", async () => {
      using db = database({ file });
      db.queue("q").enqueue(1);
      db.sqlite.run("BEGIN IMMEDIATE");
      const next = db.queue<number>("q").claim().next();
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(Bun.peek.status(next)).toBe("pending");
      db.sqlite.run("COMMIT");
      expect((await within(next, "the job is claimed")).value.payload).toBe(1);
    });
  });
}

describe("a schema that fails on a stored payload", () => {
  test("is a failed attempt, and does not hold up the jobs behind", () => {
    using db = database();
    const schema = z.string().transform((text) => JSON.parse(text) as unknown); // throws instead of reporting
    db.sqlite.run(
      `INSERT INTO _honker_live (queue, payload, max_attempts) VALUES ('q', '"not json"', 1), ('q', '"1"', 3)`,
    );
    const queue = db.queue("q", { schema });
    expect(payloads(queue.claimBatch(1))).toEqual([1]);
    expect(rows(db, "_honker_dead")).toMatchObject([
      { id: 1, last_error: expect.stringContaining("the schema") },
    ]);
  });
});

describe("unreadable jobs", () => {
  test("are buried by a loop in bounded portions, however many there are", async () => {
    using db = database();
    db.transaction((tx) => {
      const insert = tx.prepare("INSERT INTO _honker_live (queue, payload) VALUES ('q', 'oops')");
      for (let n = 0; n < 1_000; n++) insert.run();
    });
    db.queue("q").enqueue("fine");
    let turns = 0;
    const turn = setInterval(() => turns++, 0);
    expect((await db.queue("q").claim().next()).value.payload).toBe("fine");
    clearInterval(turn);
    expect(turns).toBeGreaterThan(1); // the event loop went on between portions
    expect(rows(db, "_honker_dead")).toHaveLength(1_000);
  });
});

describe("close", () => {
  const states = (folder: Folder): unknown[] => {
    using again = open(folder.file());
    return again.sqlite.query("SELECT state, attempts FROM _honker_live ORDER BY id").all();
  };
  const GIVEN_BACK = { state: "pending", attempts: 0 };

  test("gives the job of a running loop back without using an attempt", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueue(1);
    await db.queue("q").claim().next();
    db.close();
    expect(states(folder)).toEqual([GIVEN_BACK]);
  });

  test("gives back every job that its loops hold", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    for (let n = 0; n < 3; n++) db.queue("q").enqueue(n);
    const jobs = db.queue("q").claim();
    const [first] = await Promise.all([jobs.next(), jobs.next(), jobs.next()]);
    first.value.ack();
    db.close();
    expect(states(folder)).toEqual([GIVEN_BACK, GIVEN_BACK]);
  });

  test("gives back a job whose loop is just ending", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueue(1);
    const jobs = db.queue("q").claim();
    await jobs.next();
    const ended = jobs.return?.(); // its retry is not yet written
    db.close();
    await ended;
    expect(states(folder)).toEqual([GIVEN_BACK]);
  });

  test("gives back a job that a loop with an aborted signal works on", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueue(1);
    const controller = new AbortController();
    await db.queue("q").claim({ signal: controller.signal }).next();
    controller.abort();
    db.close();
    expect(states(folder)).toEqual([GIVEN_BACK]);
  });

  test("waits for the write lock to give jobs back", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueue(1);
    await db.queue("q").claim().next();
    await using holder = new Process("foreign-writer", folder.file());
    await holder.ask({ hold: 200 });
    db.close();
    expect(states(folder)).toEqual([GIVEN_BACK]);
  });

  test("is idempotent, and everything after it says so", () => {
    const db = database();
    const queue = db.queue("q");
    db.close();
    db.close();
    for (const call of [
      () => queue.enqueue(1),
      () => db.notify("c"),
      () => db.transaction(() => {}),
      () => db.listen("c"),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: "HONKBUN_CLOSED" }));
    }
  });
});
