import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import {
  type Lock,
  LockLostError,
  open,
  TransactionRequiredError,
  WaitTimeoutError,
} from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Honker } from "../support/honker.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

function turns(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

describe("db.tryLock", () => {
  test("gives a free lock, and null while somebody holds it", () => {
    using db = database();
    const lock = db.tryLock("a");
    expect(lock?.name).toBe("a");
    expect(db.tryLock("a")).toBeNull();
    expect(db.tryLock("b")).not.toBeNull();
    lock?.release();
    expect(db.tryLock("a")).not.toBeNull();
  });

  test("releases it at the end of the block, by using", () => {
    using db = database();
    {
      using lock = db.tryLock("a");
      expect(lock).not.toBeNull();
      expect(db.locks.list()).toHaveLength(1);
    }
    expect(db.locks.list()).toEqual([]);
  });

  test("takes a lock that has expired, at the very second, and not before", () => {
    using folder = new Folder();
    let now = 1_000_500;
    using db = open(folder.file(), { clock: () => now });
    using other = open(folder.file(), { clock: () => now });
    db.tryLock("a", { ttl: "2s" });
    now = 1_002_999;
    expect(other.tryLock("a")).toBeNull();
    now = 1_003_000; // 2 s from when it was taken, rounded up
    expect(other.tryLock("a")).not.toBeNull();
  });

  test("joins db.transaction, and is undone by its rollback", () => {
    using folder = new Folder();
    using db = open(folder.file());
    using other = open(folder.file());
    let lock: Lock | null = null;
    expect(() =>
      db.transaction(() => {
        lock = db.tryLock("a");
        expect(lock).not.toBeNull();
        throw new Error("no");
      }),
    ).toThrow("no");
    expect((lock as Lock | null)?.signal.aborted).toBe(true);
    expect((lock as Lock | null)?.signal.reason).toBeInstanceOf(LockLostError);
    using taken = other.tryLock("a");
    expect(taken).not.toBeNull();
  });

  test("is undone by the rollback of a nested transaction alone", () => {
    using db = database({ file: true });
    const locks = db.transaction(() => {
      const outer = db.tryLock("outer");
      let inner: Lock | null = null;
      expect(() =>
        db.transaction(() => {
          inner = db.tryLock("inner");
          throw new Error("no");
        }),
      ).toThrow("no");
      return { outer, inner: inner as Lock | null };
    });
    expect(locks.inner?.signal.aborted).toBe(true);
    expect(locks.outer?.signal.aborted).toBe(false);
    expect(db.locks.list()).toMatchObject([{ name: "outer" }]);
  });

  test("refuses what cannot be a lock, before anything is written", () => {
    using db = database();
    expect(() => db.tryLock("")).toThrow(new TypeError('tryLock: name must be a non-empty string, got ""'));
    expect(() => db.tryLock("a", { ttl: 0 })).toThrow(
      new RangeError("tryLock: ttl must be more than 0, got 0"),
    );
    expect(() => db.tryLock("a", { ttl: "soon" as "1s" })).toThrow(
      "tryLock: ttl must be milliseconds or text",
    );
    expect(() => db.tryLock("a", { owner: "" })).toThrow("tryLock: owner must be a non-empty string");
    expect(() => db.tryLock("a", { wait: 1 } as object)).toThrow("tryLock: unknown option wait");
    expect(db.locks.list()).toEqual([]);
  });
});

describe("a lock", () => {
  test("has a larger fencing token than any acquisition before, whoever took it, also after all is closed", () => {
    using folder = new Folder();
    const tokens: number[] = [];
    const take = (): void => {
      using db = open(folder.file());
      for (const name of ["a", "a", "b", "a"]) {
        using lock = db.tryLock(name);
        tokens.push(lock?.token ?? 0);
      }
    };
    take();
    {
      using honker = new Honker(folder.file());
      expect(honker.lock("a", "them", 60)).toBe(true);
      using db = open(folder.file());
      tokens.push(db.locks.list()[0]?.token ?? 0);
      expect(db.tryLock("a")).toBeNull();
      expect(honker.unlock("a", "them")).toBe(true);
    }
    take();
    expect(tokens).toEqual(tokens.toSorted((x, y) => x - y));
    expect(new Set(tokens).size).toBe(9);
    using raw = new Database(folder.file());
    raw.run("UPDATE _honker_locks SET owner = 'me'"); // nobody holds any
    using db = open(folder.file());
    expect(db.tryLock("a")?.token).toBeGreaterThan(tokens.at(-1) as number);
  });

  test("has a larger token than a holder who has written another's name over it", () => {
    using db = database({ file: true });
    const first = db.tryLock("a");
    db.sqlite.run("UPDATE _honker_locks SET owner = 'thief', expires_at = 0");
    const [second] = [db.tryLock("a")];
    expect(second?.token).toBe((first?.token ?? 0) + 2);
  });

  test("keeps the tokens of a file's locks that were taken before the file was opened", () => {
    using folder = new Folder();
    using raw = new Database(folder.file());
    raw.run(
      "CREATE TABLE _honker_locks (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_at INTEGER NOT NULL)",
    );
    raw.run("INSERT INTO _honker_locks VALUES ('a', 'x', 9999999999), ('b', 'y', 9999999999)");
    using db = open(folder.file());
    expect(db.locks.list().map(({ name, token }) => [name, token])).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
    expect(db.tryLock("c")?.token).toBe(3);
  });

  test("is renewed after each third of its ttl while it is held", async () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename, { clock: () => db.clock.now });
    const lock = db.tryLock("a", { ttl: "30s" });
    const expiry = (): number => db.locks.list()[0]?.expiresAt.getTime() ?? 0;
    await turns(5);
    for (let third = 0; third < 9; third++) {
      const before = expiry();
      db.clock.advance("10s");
      await eventually(() => expiry() === before + 10_000, "it is renewed");
    }
    expect(other.tryLock("a")).toBeNull();
    expect(lock?.signal.aborted).toBe(false);
    db.clock.advance("9s");
    const before = expiry();
    await turns(20);
    expect(expiry()).toBe(before); // no sooner
  });

  test("is renewed though it was taken by an event loop that had no turn before its ttl was over", async () => {
    using db = database({ file: true });
    const lock = db.tryLock("a", { ttl: "3s" });
    db.clock.advance("1h");
    await eventually(() => db.locks.list().length === 1, "it is renewed");
    expect(lock?.signal.aborted).toBe(false);
    db.transaction(() => lock?.guard());
  });

  test("is lost when it has expired and somebody took it: its signal aborts, and guard and renew throw", async () => {
    using folder = new Folder();
    let now = 1_000_000;
    using slow = open(folder.file(), { clock: () => 1_000_000, wake: WAKE });
    using db = open(folder.file(), { clock: () => now, wake: WAKE });
    const lock = slow.tryLock("a") as Lock;
    const aborted = Promise.withResolvers<void>();
    lock.signal.addEventListener("abort", () => aborted.resolve());
    await turns(5);
    now += 60_000;
    using next = db.tryLock("a");
    expect(next?.token).toBeGreaterThan(lock.token);
    await within(aborted.promise, "the signal aborts");
    expect(lock.signal.reason).toBeInstanceOf(LockLostError);
    expect(() => slow.transaction(() => lock.guard())).toThrow(LockLostError);
    expect(() => lock.renew()).toThrow(LockLostError);
    lock.release(); // which frees nobody else's
    expect(db.locks.list()).toHaveLength(1);
  });

  test("is known to be lost by guard and renew before anybody has told of it", () => {
    using folder = new Folder();
    let now = 1_000_000;
    using slow = open(folder.file(), { clock: () => 1_000_000 });
    using db = open(folder.file(), { clock: () => now });
    const [a, b] = [slow.tryLock("a") as Lock, slow.tryLock("b") as Lock];
    now += 60_000;
    db.tryLock("a");
    db.tryLock("b");
    slow.sqlite.run("CREATE TABLE t (n)");
    expect(() =>
      slow.transaction((tx) => {
        tx.run("INSERT INTO t VALUES (1)");
        a.guard();
      }),
    ).toThrow(new LockLostError("guard: the lock a is lost: it expired, and somebody else took it"));
    expect(slow.sqlite.query("SELECT * FROM t").all()).toEqual([]);
    expect(() => b.renew()).toThrow(LockLostError);
    expect(b.signal.aborted).toBe(true);
  });

  test("that has expired is still held while nobody has taken it", () => {
    using db = database({ file: true });
    const lock = db.tryLock("a", { ttl: "1s" }) as Lock;
    db.sqlite.run("UPDATE _honker_locks SET expires_at = 0");
    db.transaction(() => lock.guard());
    lock.renew("2m");
    expect(db.locks.list()[0]?.expiresAt.getTime()).toBe(Math.ceil(db.clock.now / 1_000) * 1_000 + 120_000);
  });

  test("is guarded on the transaction of another handle, and nowhere outside of one", () => {
    using db = database({ file: true });
    const lock = db.tryLock("a") as Lock;
    expect(() => lock.guard()).toThrow(TransactionRequiredError);
    using other = new Database(db.sqlite.filename);
    expect(() => lock.guard(other)).toThrow(TransactionRequiredError);
    other.run("BEGIN IMMEDIATE");
    lock.guard(other);
    other.run("UPDATE _honker_locks SET owner = 'thief'");
    expect(() => lock.guard(other)).toThrow(LockLostError);
    other.run("ROLLBACK");
    db.transaction(() => lock.guard());
    db.transaction((tx) => lock.guard(tx));
  });

  test("is released once, and guards and renews nothing afterwards", () => {
    using db = database({ file: true });
    const lock = db.tryLock("a") as Lock;
    lock.release();
    using next = db.tryLock("a");
    lock.release();
    lock[Symbol.dispose]();
    expect(db.locks.list()).toMatchObject([{ name: "a", token: next?.token }]);
    expect(() => db.transaction(() => lock.guard())).toThrow("guard: the lock a was released");
    expect(() => lock.renew()).toThrow("renew: the lock a was released");
    expect(lock.signal.aborted).toBe(false);
  });

  test("whose release was rolled back is held, and renewed, as before", async () => {
    using db = database({ file: true });
    const lock = db.tryLock("a") as Lock;
    expect(() =>
      db.transaction(() => {
        lock.release();
        expect(db.tryLock("a")).not.toBeNull();
        throw new Error("no");
      }),
    ).toThrow("no");
    db.transaction(() => lock.guard());
    await turns(5);
    const before = db.locks.list()[0]?.expiresAt.getTime() ?? 0;
    db.clock.advance("10s");
    await eventually(() => (db.locks.list()[0]?.expiresAt.getTime() ?? 0) > before, "it is renewed");
    lock.release();
    expect(db.locks.list()).toEqual([]);
  });

  test("that cannot be released, because the write lock is taken for too long, is freed when that is free", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE, busyTimeout: 20 });
    using other = new Database(folder.file());
    {
      using _lock = db.tryLock("a");
      other.run("BEGIN IMMEDIATE");
    }
    other.run("COMMIT");
    await eventually(() => db.locks.list().length === 0, "it is freed");
  });

  test("that could not be released yet is freed by close at the latest", () => {
    using folder = new Folder();
    const db = open(folder.file(), { busyTimeout: 20 });
    using other = new Database(folder.file());
    {
      using _lock = db.tryLock("a");
      other.run("BEGIN IMMEDIATE");
    }
    other.run("COMMIT");
    expect(db.locks.list()).toHaveLength(1);
    db.close();
    expect(other.query("SELECT * FROM _honker_locks").all()).toEqual([]);
  });

  test("is freed by close, and lost with it", () => {
    using folder = new Folder();
    using other = open(folder.file());
    const db = open(folder.file());
    const lock = db.tryLock("a") as Lock;
    db.close();
    expect(lock.signal.aborted).toBe(true);
    lock.release();
    expect(other.tryLock("a")).not.toBeNull();
    expect(other.sqlite.query("SELECT count(*) AS n FROM _honkbun_handles").get()).toEqual({ n: 1 });
  });

  test("lasts through shutdown until the handlers that hold it have ended", async () => {
    using db = database({ file: true });
    const held: boolean[] = [];
    const queue = db.queue("q");
    queue.enqueue(1);
    queue.work(async () => {
      using lock = db.tryLock("a");
      await turns(30);
      db.transaction(() => lock?.guard());
      held.push(true);
    });
    await eventually(() => db.locks.list().length === 1, "it is held");
    await db.shutdown();
    expect(held).toEqual([true]);
  });

  test("shows who holds it until when, honker's locks included", () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    honker.lock("theirs", "someone~else", 60);
    honker.lock("over", "gone", -1);
    const mine = db.tryLock("mine", { owner: "importer", ttl: "1500ms" }) as Lock;
    db.tryLock("other");
    const second = Math.floor(db.clock.now / 1_000) * 1_000;
    expect(db.locks.list()).toEqual([
      {
        name: "mine",
        owner: "importer",
        expiresAt: new Date(Math.ceil(db.clock.now / 1_000) * 1_000 + 2_000),
        token: mine.token,
      },
      { name: "other", owner: String(process.pid), expiresAt: expect.any(Date), token: expect.any(Number) },
      {
        name: "theirs",
        owner: "someone~else",
        expiresAt: new Date(second + 60_000),
        token: expect.any(Number),
      },
    ]);
  });
});

describe("db.lock", () => {
  test("waits for the holder, and is served in the order of coming", async () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename, { clock: () => db.clock.now, wake: WAKE });
    const order: number[] = [];
    const first = await db.lock("a");
    const all = [];
    for (let n = 0; n < 20; n++) {
      const who = n % 3 === 0 ? other : db;
      all.push(who.withLock("a", () => void order.push(n)));
      if (n % 5 === 0) await turns(5);
      else if (n % 3 !== 1) await eventually(() => waiters(db) === n + 1, "it stands in line");
    }
    await eventually(() => waiters(db) === 20, "all stand in line");
    expect(order).toEqual([]);
    expect(db.tryLock("a")).toBeNull();
    first.release();
    await within(Promise.all(all), "all are served");
    expect(order).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(waiters(db)).toBe(0);
    expect(db.locks.list()).toEqual([]);
  });

  test("comes before those who only try, while it waits", async () => {
    using db = database({ file: true });
    const first = await db.lock("a");
    const second = db.lock("a");
    await eventually(() => waiters(db) === 1, "it stands in line");
    db.transaction(() => {
      first.release();
      expect(db.tryLock("a")).toBeNull();
    });
    expect(db.tryLock("a")).toBeNull();
    (await second).release();
    expect(db.tryLock("a")).not.toBeNull();
  });

  test("comes before those who only try, also when the lock has expired and nobody has handed it on yet", async () => {
    using folder = new Folder();
    let now = 1_000_000;
    using db = open(folder.file(), { clock: () => now, wake: WAKE });
    using honker = new Honker(folder.file(), () => 1_000);
    using ahead = open(folder.file(), { clock: () => 1_061_000, wake: WAKE });
    honker.lock("a", "them", 60);
    const waiting = db.lock("a");
    await eventually(() => waiters(db) === 1, "it stands in line");
    expect(ahead.tryLock("a")).toBeNull();
    now += 61_000;
    db.notify("anything"); // which has it look
    using _lock = await within(waiting, "it is served");
  });

  test("gets a lock whose holder does not renew it as soon as it has expired", async () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    honker.lock("a", "them", 60);
    const waiting = db.lock("a");
    await eventually(() => waiters(db) === 1, "it stands in line");
    db.clock.advance(59_000);
    await turns(20);
    expect(Bun.peek.status(waiting)).toBe("pending");
    db.clock.advance(1_000);
    using lock = await within(waiting, "it is served");
    expect(db.locks.list()).toMatchObject([{ token: lock.token }]);
  });

  test("gets a lock that honker, or plain SQL, has freed", async () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename);
    honker.lock("a", "them", 600);
    const waiting = db.lock("a");
    await eventually(() => waiters(db) === 1, "it stands in line");
    honker.unlock("a", "them");
    using _lock = await within(waiting, "it is served");
  });

  test("that was cancelled leaves the line, and those behind it are served", async () => {
    using db = database({ file: true });
    const first = await db.lock("a");
    const abort = new AbortController();
    const second = db.lock("a", { signal: abort.signal });
    const third = db.lock("a", { timeout: "5s" });
    const fourth = db.lock("a");
    await eventually(() => waiters(db) === 3, "all stand in line");
    const reason = new Error("enough");
    abort.abort(reason);
    await expect(second).rejects.toBe(reason);
    db.clock.advance("5s");
    await expect(third).rejects.toThrow(
      new WaitTimeoutError("lock: the lock a was not free within 5000 ms (timeout)"),
    );
    await eventually(() => waiters(db) === 1, "they have left");
    first.release();
    using _lock = await within(fourth, "it is served");
  });

  test("that was cancelled at the moment of being served hands the lock on", async () => {
    using db = database({ file: true });
    for (let round = 0; round < 50; round++) {
      const first = await db.lock("a");
      const abort = new AbortController();
      const second = db.lock("a", { signal: abort.signal });
      const third = db.lock("a");
      if (round % 2 === 0) await eventually(() => waiters(db) === 2, "both stand in line");
      first.release();
      if (round % 5 === 0) await Promise.resolve();
      abort.abort();
      await second.then(
        (lock) => lock.release(),
        () => {},
      );
      (await within(third, "it is served")).release();
    }
    await eventually(() => db.locks.list().length === 0 && waiters(db) === 0, "nothing is left");
  });

  test("rejects at once for a signal that is aborted, and leaves nothing behind", async () => {
    using db = database({ file: true });
    await expect(db.lock("a", { signal: AbortSignal.abort("no") })).rejects.toBe("no");
    expect(db.locks.list()).toEqual([]);
  });

  test("comes back to the end of the line when its turn came and went while its process slept", async () => {
    using folder = new Folder();
    let now = 1_000_000;
    using holder = open(folder.file(), { clock: () => now, wake: WAKE });
    using db = open(folder.file(), { clock: () => now, wake: { safetyInterval: false, mode: "poll" } });
    const first = holder.tryLock("a") as Lock;
    const waiting = db.lock("a", { ttl: "10s" });
    await eventually(() => waiters(holder) === 1, "it stands in line");
    // All of this in one turn: db sees only how it ends.
    first.release();
    expect(holder.tryLock("a")).toBeNull(); // it is db's
    now += 11_000;
    const second = holder.tryLock("a") as Lock;
    expect(second).not.toBeNull();
    await eventually(() => waiters(holder) === 1, "it stands in line again");
    expect(Bun.peek.status(waiting)).toBe("pending");
    second.release();
    using _lock = await within(waiting, "it is served");
  });

  test("ends with an error when the handle is closed, and leaves the line", async () => {
    using folder = new Folder();
    using other = open(folder.file());
    using held = other.tryLock("a");
    const db = open(folder.file(), { wake: WAKE });
    const waiting = db.lock("a");
    await eventually(() => waiters(other) === 1, "it stands in line");
    db.close();
    await expect(waiting).rejects.toThrow("this honkbun handle was closed");
    expect(waiters(other)).toBe(0);
    expect(held).not.toBeNull();
  });

  test("works in memory", async () => {
    using db = database();
    const first = db.tryLock("a") as Lock;
    const waiting = db.lock("a");
    await turns(10);
    expect(Bun.peek.status(waiting)).toBe("pending");
    first.release();
    using lock = await within(waiting, "it is served");
    expect(lock.token).toBeGreaterThan(first.token);
  });
});

describe("db.withLock", () => {
  test("holds the lock while the function runs, and frees it whatever becomes of it", async () => {
    using db = database({ file: true });
    const result = await db.withLock("a", async (lock) => {
      await turns(5);
      db.transaction(() => lock.guard());
      expect(db.tryLock("a")).toBeNull();
      return 7;
    });
    expect(result).toBe(7);
    expect(db.locks.list()).toEqual([]);
    const failing = db.withLock("a", () => {
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect(db.locks.list()).toEqual([]);
    await db.withLock("a", (lock) => lock.release());
  });

  test("never runs two functions at a time", async () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename, { clock: () => db.clock.now, wake: WAKE });
    let running = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 60 }, (_, n) =>
        (n % 2 === 0 ? db : other).withLock("a", async () => {
          most = Math.max(most, ++running);
          await Promise.resolve();
          running--;
        }),
      ),
    );
    expect(most).toBe(1);
  });

  test("rejects when the lock was lost before the function had ended", async () => {
    using db = database({ file: true });
    const lost = db.withLock("a", async (lock) => {
      db.sqlite.run("UPDATE _honker_locks SET owner = 'thief'");
      await eventually(() => lock.signal.aborted, "it is lost");
    });
    await expect(lost).rejects.toThrow(LockLostError);
  });
});

function waiters(db: { readonly sqlite: Database }): number {
  return db.sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honkbun_lock_waiters").get()?.n ?? 0;
}
