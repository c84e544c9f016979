import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { AmbiguousTransactionError, type Honkbun, open, PayloadError } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const stored = (db: Honkbun): unknown[] =>
  db.sqlite.query("SELECT id, payload, priority, due_ms, max_attempts FROM _honker_live ORDER BY id").all();

function* count(to: number): Generator<number> {
  for (let n = 0; n < to; n++) yield n;
}

describe("enqueueMany", () => {
  test("stores every payload, and returns the ids in their order", () => {
    using db = database();
    const queue = db.queue<number>("q");
    for (const size of [0, 1, 31, 32, 33, 64, 100]) {
      const ids = queue.enqueueMany(count(size));
      expect(ids).toHaveLength(size);
      const jobs = queue.claimBatch(1_000);
      expect(jobs.map(({ id, payload }) => [id, payload])).toEqual(ids.map((id, n) => [id, n]));
      queue.ackBatch(jobs);
    }
  });

  test("stores 100,000 payloads at once", () => {
    using db = database({ file: true });
    const ids = db.queue<number>("q").enqueueMany(count(100_000));
    expect([ids.length, ids[0], ids.at(-1)]).toEqual([100_000, 1, 100_000]);
    expect(new Set(ids).size).toBe(100_000);
    expect(db.queue("q").counts().ready).toBe(100_000);
    const odd = "SELECT count(*) AS n FROM _honker_live WHERE id <> payload + 1";
    expect(db.sqlite.query(odd).get()).toEqual({ n: 0 });
  });

  test("takes options for all, or a function that gives them for each", () => {
    using db = database();
    const { now } = db.clock;
    const queue = db.queue<string>("q");
    queue.enqueueMany(["a", "b"], { priority: 3, delay: 10, maxAttempts: 9 });
    queue.enqueueMany(["c", "d"], (payload, index) => ({
      priority: index,
      ...(payload === "d" ? { delay: 5 } : {}),
    }));
    expect(stored(db)).toEqual([
      { id: 1, payload: '"a"', priority: 3, due_ms: now + 10, max_attempts: 9 },
      { id: 2, payload: '"b"', priority: 3, due_ms: now + 10, max_attempts: 9 },
      { id: 3, payload: '"c"', priority: 0, due_ms: now, max_attempts: 3 },
      { id: 4, payload: '"d"', priority: 1, due_ms: now + 5, max_attempts: 3 },
    ]);
  });

  test("commits with the open transaction, or with the one on tx", () => {
    using folder = new Folder();
    using db = open(folder.file());
    using mine = new Database(folder.file());
    expect(() =>
      db.transaction(() => {
        db.queue("q").enqueueMany(count(40));
        throw new Error("no");
      }),
    ).toThrow("no");
    mine.run("BEGIN");
    db.queue("q").enqueueMany(count(40), { tx: mine });
    expect(stored(db)).toEqual([]);
    mine.run("COMMIT");
    expect(stored(db)).toHaveLength(40);
  });

  test("writes nothing when one payload or option is bad, and says which", () => {
    using db = database();
    const queue = db.queue("q", { schema: z.number() });
    const bad: [() => unknown, string][] = [
      [() => queue.enqueueMany([1, 2, "three" as never]), "(payload 2)"],
      [() => queue.enqueueMany([1, 2], (n) => ({ priority: n * 100 })), "got 200 (payload 1)"],
      [() => queue.enqueueMany([1, 2], { dealy: 1 } as never), "enqueueMany: unknown option dealy"],
      [() => queue.enqueueMany(5 as never), "payloads must be iterable, got 5"],
      [
        () => queue.enqueueMany([1, 2], (n) => (n === 2 ? { tx: db.sqlite } : {})),
        "tx must be the same for all payloads",
      ],
      [
        () =>
          queue.enqueueMany(
            (function* () {
              yield* count(50);
              throw new Error("the source failed");
            })(),
          ),
        "the source failed",
      ],
    ];
    for (const [call, message] of bad) expect(call).toThrow(message);
    expect(stored(db)).toEqual([]);
  });

  test("keeps payloads of every kind as they are", () => {
    using db = database();
    const payloads = [
      "",
      "a\u0000\ud800☃𝄞",
      true,
      false,
      0,
      null,
      [],
      { a: [null] },
      "5",
      "x".repeat(100_000),
    ];
    const all = Array.from({ length: 5 }, () => payloads).flat();
    db.queue("q").enqueueMany(all);
    db.queue("q").enqueueMany([undefined]);
    const claimed = db.queue("q").claimBatch(99);
    expect(claimed.map((job) => job.payload)).toEqual([...all, null]);
  });
});

describe("enqueueAsync", () => {
  test("commits all calls of a tick together, and resolves with their ids after the commit", async () => {
    using db = database({ file: true });
    using reader = new Database(db.sqlite.filename);
    const visible = (): number =>
      reader.query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_live").get()?.n ?? 0;
    let counted = 0;
    const ids = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => {
        const id = await db.queue(n % 2 ? "odd" : "even").enqueueAsync(n);
        counted = Math.max(counted, visible());
        return id;
      }),
    );
    expect(counted).toBe(100); // each had been committed, and all by one commit
    const rows = db.sqlite.query("SELECT id, queue, payload FROM _honker_live ORDER BY id").all();
    expect(rows).toEqual(ids.map((id, n) => ({ id, queue: n % 2 ? "odd" : "even", payload: String(n) })));
    expect(await db.queue("q").enqueueAsync("in the next tick")).toBe(101);
  });

  test("rejects the promise of a bad payload or option alone", async () => {
    using db = database();
    const queue = db.queue("q");
    const results = await Promise.allSettled([
      queue.enqueueAsync(1),
      queue.enqueueAsync(2n),
      queue.enqueueAsync(3, { priority: 1_000 }),
      queue.enqueueAsync(4, { tx: db.sqlite } as never),
      queue.enqueueAsync(5),
    ]);
    expect(results).toEqual([
      { status: "fulfilled", value: 1 },
      { status: "rejected", reason: expect.any(PayloadError) },
      { status: "rejected", reason: expect.any(RangeError) },
      {
        status: "rejected",
        reason: expect.objectContaining({ message: expect.stringContaining("tx is not taken") }),
      },
      { status: "fulfilled", value: 2 },
    ]);
    expect(queue.claimBatch(9).map((job) => job.payload)).toEqual([1, 5]);
  });

  test("throws inside db.transaction, which it could not join", async () => {
    using db = database();
    expect(() => db.transaction(() => void db.queue("q").enqueueAsync(1))).toThrow(AmbiguousTransactionError);
    expect(stored(db)).toEqual([]);
    expect(await db.queue("q").enqueueAsync(2)).toBe(1);
  });

  test("wakes whoever waits, here", async () => {
    using db = database({ file: true });
    const seen: unknown[] = [];
    void (async () => {
      for await (const job of db.queue("q").claim()) {
        seen.push(job.payload);
        job.ack();
      }
    })();
    await db.queue("q").enqueueAsync("x");
    await eventually(() => seen.length === 1, "the job is claimed");
  });

  test("waits for the write lock without blocking, and loses nothing", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using other = new Database(folder.file());
    other.run("BEGIN IMMEDIATE");
    const inserted = Promise.all([db.queue("q").enqueueAsync(1), db.queue("q").enqueueAsync(2)]);
    let turns = 0;
    await eventually(() => ++turns > 20, "the event loop goes on");
    expect(Bun.peek.status(inserted)).toBe("pending");
    const later = db.queue("q").enqueueAsync(3); // a later tick, but the same transaction
    other.run("COMMIT");
    expect(await inserted).toEqual([1, 2]);
    expect(await later).toBe(3);
  });

  test("rejects once the handle is closed, and forgets nothing that it has acknowledged", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    await db.queue("q").enqueueAsync(1);
    const open2 = db.queue("q").enqueueAsync(2);
    db.close();
    await expect(open2).rejects.toMatchObject({ code: "HONKBUN_CLOSED" });
    await expect(db.queue("q").enqueueAsync(3)).rejects.toMatchObject({ code: "HONKBUN_CLOSED" });
    using again = open(folder.file());
    expect(
      again
        .queue("q")
        .claimBatch(9)
        .map((job) => job.payload),
    ).toEqual([1]);
  });
});

describe("a trigger of the application's on the jobs' table", () => {
  test("that inserts further jobs leaves enqueueMany its ids", () => {
    using db = database();
    db.sqlite.run(`CREATE TRIGGER audit AFTER INSERT ON _honker_live WHEN new.queue = 'q'
      BEGIN INSERT INTO _honker_live (queue, payload) VALUES ('audit', new.id); END`);
    const queue = db.queue<number>("q");
    const ids = queue.enqueueMany(Array.from({ length: 100 }, (_, n) => n));
    expect(ids.map((id) => queue.get(id)?.payload)).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  test("that refuses one job of a tick rejects the promise of that one alone", async () => {
    for (const count of [3, 100]) {
      using db = database({ file: true });
      db.sqlite.run(`CREATE TRIGGER picky BEFORE INSERT ON _honker_live WHEN new.payload = '2'
        BEGIN SELECT raise(ABORT, 'not that one'); END`);
      const queue = db.queue<number>("q");
      const results = await Promise.allSettled(
        Array.from({ length: count }, (_, n) => queue.enqueueAsync(n)),
      );
      expect(results.filter(({ status }) => status === "rejected")).toMatchObject([
        { reason: { message: "not that one" } },
      ]);
      expect(results[2]?.status).toBe("rejected");
      for (const [n, result] of results.entries()) {
        if (result.status === "fulfilled") expect(queue.get(result.value)?.payload).toBe(n);
      }
    }
  });
});

describe("jobs that are enqueued in one moment, some with options of their own and some without", () => {
  const COUNT = 130;
  /** The first and the last of each 60 are without options. */
  const isPlain = (n: number): boolean => n % 60 === 0 || n % 60 === 59;

  test("keep their own, by enqueueMany", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const numbers = Array.from({ length: COUNT }, (_, n) => n);
    const ids = queue.enqueueMany(numbers, (_, n) =>
      isPlain(n) ? (undefined as never) : { priority: 7, delay: "1h", maxAttempts: 5 },
    );
    for (const n of numbers) {
      expect(queue.get(ids[n] ?? 0)).toMatchObject({
        payload: n,
        priority: isPlain(n) ? 0 : 7,
        maxAttempts: isPlain(n) ? 3 : 5,
        state: isPlain(n) ? "ready" : "delayed",
      });
    }
  });

  test("keep their own, and their queue, by enqueueAsync", async () => {
    using db = database({ file: true });
    const queues = [db.queue<number>("a"), db.queue<number>("b")];
    const ids = await Promise.all(
      Array.from({ length: COUNT }, (_, n) =>
        isPlain(n)
          ? queues[0]?.enqueueAsync(n)
          : queues[1]?.enqueueAsync(n, n % 2 === 0 ? undefined : { priority: 5 }),
      ),
    );
    for (const [n, id] of ids.entries()) {
      expect(queues[isPlain(n) ? 0 : 1]?.get(id ?? 0)).toMatchObject({
        payload: n,
        queue: isPlain(n) ? "a" : "b",
        priority: isPlain(n) || n % 2 === 0 ? 0 : 5,
      });
    }
  });
});
