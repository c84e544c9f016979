import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";

import {
  AmbiguousTransactionError,
  BusyError,
  type Honkbun,
  open,
  TransactionRequiredError,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

let folder: Folder;
let db: Honkbun;
beforeEach(() => {
  folder = new Folder();
  db = open(folder.file(), { wake: { safetyInterval: false } });
  db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)");
});
afterEach(() => {
  db.close();
  folder[Symbol.dispose]();
});

const jobs = (): number => count("_honker_live");
const orders = (): number => count("orders");
function count(table: string): number {
  using reader = new Database(folder.file());
  return reader.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? -1;
}

describe("db.transaction", () => {
  test("commits the application's row and the job together", () => {
    const id = db.transaction((tx) => {
      tx.run("INSERT INTO orders (note) VALUES ('a')");
      const id = db.queue("q").enqueue(1);
      expect([orders(), jobs()]).toEqual([0, 0]);
      return id;
    });
    expect(id).toBe(1);
    expect([orders(), jobs()]).toEqual([1, 1]);
  });

  test("rolls both back when its callback throws", () => {
    expect(() =>
      db.transaction((tx) => {
        tx.run("INSERT INTO orders (note) VALUES ('a')");
        db.queue("q").enqueue(1);
        db.notify("c");
        throw new Error("no");
      }),
    ).toThrow("no");
    expect([orders(), jobs(), count("_honker_notifications")]).toEqual([0, 0, 0]);
  });

  test("takes the write lock at once, so that a read before the write cannot make it fail", () => {
    using other = new Database(folder.file());
    db.transaction((tx) => {
      tx.query("SELECT * FROM orders").all();
      expect(() => other.run("INSERT INTO orders (note) VALUES ('b')")).toThrow("locked");
      db.queue("q").enqueue(1);
    });
    expect(jobs()).toBe(1);
  });

  test("nests: an inner one that throws takes back only its own", () => {
    db.transaction(() => {
      db.queue("q").enqueue("outer");
      expect(() =>
        db.transaction(() => {
          db.queue("q").enqueue("inner");
          db.transaction(() => void db.queue("q").enqueue("innermost"));
          throw new Error("no");
        }),
      ).toThrow("no");
      db.transaction(() => void db.queue("q").enqueue("second"));
    });
    const payloads = db
      .queue("q")
      .claimBatch(9)
      .map((job) => job.payload);
    expect(payloads).toEqual(["outer", "second"]);
  });

  test("rolls back an asynchronous callback and says so", async () => {
    const late = Promise.withResolvers<void>();
    expect(() =>
      db.transaction(async (tx) => {
        tx.run("INSERT INTO orders (note) VALUES ('a')");
        db.queue("q").enqueue(1);
        await late.promise;
      }),
    ).toThrow(
      new TypeError(
        "transaction: the callback returned a promise, and its transaction was rolled back. A transaction is synchronous: await first, then write",
      ),
    );
    late.resolve();
    expect([orders(), jobs(), db.sqlite.inTransaction]).toEqual([0, 0, false]);
  });

  test("rolls back a callback that returns any thenable, and swallows its rejection", async () => {
    // biome-ignore lint/suspicious/noThenProperty: that is the point
    const thenable = { then() {} };
    expect(() => db.transaction(() => thenable)).toThrow(TypeError);
    expect(() => db.transaction(async () => Promise.reject(new Error("late")))).toThrow(TypeError);
    await new Promise((resolve) => setImmediate(resolve)); // an unhandled rejection would fail the test
  });

  test("says so when its callback ended the transaction itself", () => {
    expect(() =>
      db.transaction((tx) => {
        tx.run("ROLLBACK");
        db.queue("q").enqueue(1);
      }),
    ).toThrow(AmbiguousTransactionError);
    expect(jobs()).toBe(0);
  });

  test("reads what it has written itself", () => {
    db.queue("q").enqueue(1);
    db.transaction(() => {
      db.queue("q").enqueue(2);
      expect(db.queue("q").claimBatch(9)).toHaveLength(2);
    });
  });
});

describe("a transaction that db.transaction did not begin", () => {
  test("is never joined by itself: it may be another request's, and roll back", async () => {
    const request = Promise.withResolvers<void>();
    const first = (async () => {
      db.sqlite.run("BEGIN IMMEDIATE");
      db.sqlite.run("INSERT INTO orders (note) VALUES ('first')");
      await request.promise;
      db.sqlite.run("ROLLBACK");
    })();
    // Another request, meanwhile: neither swallowed nor kept waiting.
    const start = performance.now();
    expect(() => db.queue("q").enqueue(1)).toThrow(AmbiguousTransactionError);
    expect(() => db.notify("c")).toThrow(AmbiguousTransactionError);
    expect(() => db.transaction(() => {})).toThrow(AmbiguousTransactionError);
    expect(() => db.queue("q").claimBatch(1)).toThrow(AmbiguousTransactionError);
    expect(performance.now() - start).toBeLessThan(1_000);
    request.resolve();
    await first;
    expect(db.queue("q").enqueue(1)).toBe(1);
    expect([orders(), jobs()]).toEqual([0, 1]);
  });

  test("is not joined by settling a job", () => {
    db.queue("q").enqueue(1);
    const [job] = db.queue("q").claimBatch(1);
    db.sqlite.run("BEGIN");
    expect(() => job?.ack()).toThrow(AmbiguousTransactionError);
    expect(() => job?.retry()).toThrow(AmbiguousTransactionError);
    expect(() => job?.fail(new Error("x"))).toThrow(AmbiguousTransactionError);
    db.sqlite.run("ROLLBACK");
    expect(job?.settled).toBe(false);
    job?.ack();
    expect(jobs()).toBe(0);
  });

  test("does not keep claim loops and listeners from going on once it has ended", async () => {
    const seen: unknown[] = [];
    using _ = db.listen("c", (notification) => void seen.push(notification.payload));
    const claimed = db.queue<number>("q").claim().next();
    db.sqlite.run("BEGIN IMMEDIATE");
    db.queue("q").enqueue(1, { tx: db.sqlite });
    db.notify("c", 2, { tx: db.sqlite });
    await new Promise((resolve) => setImmediate(resolve));
    db.sqlite.run("COMMIT");
    expect((await claimed).value.payload).toBe(1);
    await eventually(() => seen.length === 1, "the notification is seen");
  });
});

describe("{ tx }", () => {
  test("sends on another handle's transaction, which commits it", () => {
    using other = new Database(folder.file());
    other.run("BEGIN");
    other.run("INSERT INTO orders (note) VALUES ('a')");
    expect(db.queue("q").enqueue(1, { tx: other })).toBe(1);
    expect(db.notify("c", null, { tx: other })).toBe(1);
    expect([orders(), jobs()]).toEqual([0, 0]);
    other.run("COMMIT");
    expect([orders(), jobs()]).toEqual([1, 1]);
  });

  test("rolls back with the other handle's transaction", () => {
    using other = new Database(folder.file(), { safeIntegers: true, strict: true });
    other.run("BEGIN");
    expect(db.queue("q").enqueue(1, { tx: other })).toBe(1);
    other.run("ROLLBACK");
    expect(jobs()).toBe(0);
  });

  test("settles a job on it, and unsettles it when that rolls back", async () => {
    db.queue("q").enqueue(1);
    const [job] = db.queue("q").claimBatch(1);
    using other = new Database(folder.file());
    other.run("BEGIN");
    job?.ack({ tx: other });
    expect(job?.settled).toBe(true);
    other.run("ROLLBACK");
    await eventually(() => job?.settled === false, "the job is unsettled");
    job?.retry({ delay: 0, error: new Error("x") });
    expect(jobs()).toBe(1);
  });

  test("refuses a handle that is not in a transaction", () => {
    using other = new Database(folder.file());
    expect(() => db.queue("q").enqueue(1, { tx: other })).toThrow(TransactionRequiredError);
    expect(() => db.notify("c", 1, { tx: db.sqlite })).toThrow(TransactionRequiredError);
  });

  test("refuses a handle on another database", () => {
    using other = new Database(folder.file("other.db"));
    other.run("BEGIN");
    expect(() => db.queue("q").enqueue(1, { tx: other })).toThrow(TransactionRequiredError);
    using memory = new Database(":memory:");
    memory.run("BEGIN");
    expect(() => db.queue("q").enqueue(1, { tx: memory })).toThrow(TransactionRequiredError);
  });

  test("refuses what is no handle", () => {
    expect(() => db.queue("q").enqueue(1, { tx: {} as Database })).toThrow(TypeError);
  });

  test("explains a transaction that began with a read and was overtaken", () => {
    using other = new Database(folder.file());
    other.run("BEGIN");
    other.query("SELECT * FROM orders").all();
    db.queue("q").enqueue("overtakes");
    expect(() => db.queue("q").enqueue(1, { tx: other })).toThrow("BEGIN IMMEDIATE");
    expect(() => db.queue("q").enqueue(1, { tx: other })).toThrow(BusyError);
  });

  test("undoes only its own statements when one of several fails", () => {
    db.queue("q").enqueue(1, { maxAttempts: 1 });
    const [job] = db.queue("q").claimBatch(1);
    using other = new Database(folder.file());
    other.run("BEGIN");
    other.run("INSERT INTO orders (note) VALUES ('kept')");
    other.run(
      "CREATE TEMP TRIGGER refuse BEFORE DELETE ON _honker_live BEGIN SELECT raise(ABORT, 'refused'); END",
    );
    expect(() => job?.retry({ error: new Error("x"), tx: other })).toThrow("refused");
    other.run("COMMIT");
    expect([orders(), count("_honker_dead"), count("_honkbun_errors")]).toEqual([1, 0, 0]);
  });
});

describe("a taken write lock", () => {
  test("waits for the write lock also in statements of the application's own on db.sqlite", async () => {
    await using holder = new Process("foreign-writer", folder.file());
    await holder.ask({ hold: 300 });
    db.sqlite.run("INSERT INTO orders (note) VALUES ('a')");
    db.queue("q").enqueue(1);
    db.transaction(() => {});
    await holder.ask({ hold: 300 });
    db.sqlite.run("INSERT INTO orders (note) VALUES ('b')"); // also after sends, which wait otherwise
    expect(orders()).toBe(2);
  });

  test("is waited for", async () => {
    await using holder = new Process("foreign-writer", folder.file());
    await holder.ask({ hold: 300 });
    expect(db.queue("q").enqueue(1)).toBe(1);
  });

  test("is waited for no longer than busyTimeout", async () => {
    using impatient = open(folder.file(), { busyTimeout: 50 });
    await using holder = new Process("foreign-writer", folder.file());
    await holder.ask({ hold: 60_000 });
    expect(() => impatient.queue("q").enqueue(1)).toThrow(BusyError);
    expect(() => impatient.queue("q").enqueue(1)).toThrow("within 50 ms (busyTimeout)");
  });

  test("held by another handle of this process is not waited for: it cannot be freed meanwhile", () => {
    using patient = open(folder.file(), { busyTimeout: "10m" });
    using other = new Database(folder.file());
    other.run("BEGIN IMMEDIATE");
    expect(() => patient.queue("q").enqueue(1)).toThrow("send on that handle with { tx }");
    expect(patient.queue("q").enqueue(1, { tx: other })).toBe(1);
    other.run("COMMIT");
    expect(jobs()).toBe(1);
  });
});
