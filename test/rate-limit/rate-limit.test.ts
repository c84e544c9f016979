import { describe, expect, test } from "bun:test";
import { renameSync } from "node:fs";

import { type Honkbun, open, WaitTimeoutError } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Honker } from "../support/honker.ts";

const MINUTE = 60_000;

function turns(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** At the beginning of a minute. */
function atMinute(file = false) {
  return database({ file, now: new Date("2026-03-01T10:00:00Z") });
}

function rows(db: Honkbun, table: string): number {
  return db.sqlite.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? 0;
}

describe("a rate limit by fixed windows", () => {
  test("allows so many in a window, says how many are left, and when there will be more", () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 3, per: "1m" });
    db.clock.advance("20s");
    const resetAt = new Date("2026-03-01T10:01:00Z");
    expect(limit.try()).toEqual({ allowed: true, remaining: 2, retryAfter: 0, resetAt });
    expect(limit.try({ cost: 2 })).toEqual({ allowed: true, remaining: 0, retryAfter: 0, resetAt });
    expect(limit.try()).toEqual({ allowed: false, remaining: 0, retryAfter: 40_000, resetAt });
    db.clock.advance(39_999);
    expect(limit.try().allowed).toBe(false);
    db.clock.advance(1);
    expect(limit.try()).toMatchObject({ allowed: true, remaining: 2 });
  });

  test("counts nothing that it refuses", () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 3, per: "1m" });
    limit.try({ cost: 2 });
    for (let n = 0; n < 5; n++)
      expect(limit.try({ cost: 2 })).toMatchObject({ allowed: false, remaining: 1 });
    expect(limit.try()).toMatchObject({ allowed: true, remaining: 0 });
  });

  test("is the same for all handles, and for honker", () => {
    using db = atMinute(true);
    using other = open(db.sqlite.filename, { clock: () => db.clock.now });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    const limits = [db, other].map((one) => one.rateLimit("api", { limit: 5, per: "1m" }));
    expect(limits.map((limit) => limit.try().remaining)).toEqual([4, 3]);
    expect(honker.tryRateLimit("api", 5, 60)).toBe(true);
    expect(limits.map((limit) => limit.try().remaining)).toEqual([1, 0]);
    expect(honker.tryRateLimit("api", 5, 60)).toBe(false);
    expect(limits.map((limit) => limit.try().allowed)).toEqual([false, false]);
  });

  test("counts each key apart, whatever names and keys look like", () => {
    using db = atMinute();
    const names = ["a", "a:b", "a%3Ab"];
    const keys = [undefined, "b", "b:c", ":"];
    for (const name of names) {
      const limit = db.rateLimit(name, { limit: 1, per: "1m" });
      for (const key of keys) expect(limit.try({ key }).allowed).toBe(true);
      for (const key of keys) expect(limit.try({ key }).allowed).toBe(false);
    }
  });

  test("follows the limit that a handle names, whatever was counted before", () => {
    using db = atMinute();
    for (let n = 0; n < 5; n++) db.rateLimit("api", { limit: 5, per: "1m" }).try();
    expect(db.rateLimit("api", { limit: 3, per: "1m" }).try()).toMatchObject({
      allowed: false,
      remaining: 0,
    });
    expect(db.rateLimit("api", { limit: 6, per: "1m" }).try()).toMatchObject({ allowed: true, remaining: 0 });
  });

  test("joins db.transaction, and what is rolled back was not counted", () => {
    using db = atMinute(true);
    const limit = db.rateLimit("api", { limit: 1, per: "1m" });
    expect(() =>
      db.transaction(() => {
        expect(limit.try().allowed).toBe(true);
        expect(limit.try().allowed).toBe(false);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(limit.try().allowed).toBe(true);
  });
});

describe("a rate limit by a token bucket", () => {
  test("allows a burst, and grows again steadily up to it", () => {
    using db = atMinute();
    const bucket = db.rateLimit("stripe", { limit: 10, per: "1s", algorithm: "token-bucket", burst: 5 });
    for (let left = 4; left >= 0; left--) {
      expect(bucket.try()).toMatchObject({ allowed: true, remaining: left, retryAfter: 0 });
    }
    expect(bucket.try()).toEqual({
      allowed: false,
      remaining: 0,
      retryAfter: 100,
      resetAt: new Date(db.clock.now + 500),
    });
    expect(bucket.try({ cost: 3 }).retryAfter).toBe(300);
    db.clock.advance(99);
    expect(bucket.try().allowed).toBe(false);
    db.clock.advance(1);
    expect(bucket.try()).toMatchObject({ allowed: true, remaining: 0 });
    db.clock.advance("1h");
    expect(bucket.try()).toMatchObject({ allowed: true, remaining: 4 });
  });

  test("allows exactly its rate over a long time, in all handles together", () => {
    using db = atMinute(true);
    using other = open(db.sqlite.filename, { clock: () => db.clock.now });
    const options = { limit: 7, per: "1s", algorithm: "token-bucket" } as const;
    const buckets = [db.rateLimit("x", options), other.rateLimit("x", options)];
    let allowed = 0;
    for (let at = 0; at < 20_000; at += 13) {
      for (const bucket of buckets) if (bucket.try().allowed) allowed++;
      db.clock.advance(13);
    }
    expect(allowed).toBeGreaterThanOrEqual(7 + 7 * 20 - 1);
    expect(allowed).toBeLessThanOrEqual(7 + 7 * 20);
  });

  test("loses nothing to rounding: as much as its burst at once, whatever the rate", () => {
    using db = atMinute();
    for (const limit of [1, 3, 7, 11, 13, 97, 999]) {
      const bucket = db.rateLimit(`r${limit}`, { limit, per: "1s", algorithm: "token-bucket" });
      for (let n = 0; n < limit; n++) expect(bucket.try().allowed).toBe(true);
      expect(bucket.try().allowed).toBe(false);
    }
  });

  test("neither floods nor stalls when the clock is set forwards or back", () => {
    using db = atMinute();
    const bucket = db.rateLimit("x", { limit: 10, per: "1s", algorithm: "token-bucket", burst: 5 });
    for (let n = 0; n < 5; n++) bucket.try();
    db.clock.set(new Date(db.clock.now - 3_600_000));
    expect(bucket.try().allowed).toBe(false);
    db.clock.advance(100);
    expect(bucket.try().allowed).toBe(true);
    db.clock.advance("30d");
    let allowed = 0;
    while (bucket.try().allowed) allowed++;
    expect(allowed).toBe(5);
  });
});

describe("rateLimit.wait", () => {
  test("resolves when it is allowed, in the order of coming", async () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 2, per: "1m" });
    const done: number[] = [];
    const all = Array.from({ length: 7 }, (_, n) =>
      limit.wait({ cost: n === 3 ? 2 : 1 }).then(() => done.push(n)),
    );
    await eventually(() => done.length === 2, "the first window");
    await turns(20);
    expect(done).toEqual([0, 1]);
    for (const expected of [
      [0, 1, 2],
      [0, 1, 2, 3],
      [0, 1, 2, 3, 4, 5],
    ]) {
      db.clock.advance("1m");
      await eventually(() => done.length === expected.length, `the window of ${expected.at(-1)}`);
      await turns(20);
      expect(done).toEqual(expected);
    }
    db.clock.advance("1m");
    await within(Promise.all(all), "all are allowed");
  });

  test("waits for each key apart", async () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 1, per: "1m" });
    await limit.wait({ key: "a" });
    const waiting = limit.wait({ key: "a" });
    await within(limit.wait({ key: "b" }), "another key");
    expect(Bun.peek.status(waiting)).toBe("pending");
    db.clock.advance("1m");
    await within(waiting, "the next window");
  });

  test("gives up on its signal and after its timeout, and those behind it have their turn", async () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 10, per: "1m" });
    limit.try({ cost: 8 });
    const abort = new AbortController();
    const big = limit.wait({ cost: 5, signal: abort.signal });
    const late = limit.wait({ cost: 3, timeout: "10s" });
    const small = limit.wait({ cost: 2 });
    await turns(20);
    expect(Bun.peek.status(small)).toBe("pending"); // it is not passed
    abort.abort("enough");
    await expect(big).rejects.toBe("enough");
    db.clock.advance("10s");
    await expect(late).rejects.toThrow(
      new WaitTimeoutError("wait: the rate limit api did not allow it within 10000 ms (timeout)"),
    );
    await within(small, "it is allowed");
    expect(limit.try()).toMatchObject({ allowed: false, remaining: 0 }); // who gave up was not counted
  });

  test("is not held up by a clock that is set back", async () => {
    using db = atMinute();
    const bucket = db.rateLimit("x", { limit: 1, per: "10s", algorithm: "token-bucket" });
    bucket.try();
    const waiting = bucket.wait();
    await turns(10);
    db.clock.set(new Date(db.clock.now - 3_600_000));
    await turns(10);
    db.clock.advance("10s"); // now it is seen that the bucket is from a later time
    await turns(10);
    db.clock.advance("10s");
    await within(waiting, "it is allowed");
  });

  test("ends with an error when the handle is closed, or the file is gone", async () => {
    const db = atMinute(true);
    const limit = db.rateLimit("api", { limit: 1, per: "1h" });
    limit.try();
    const waiting = limit.wait();
    await turns(10);
    db.close();
    await expect(waiting).rejects.toThrow("this honkbun handle was closed");
    await expect(limit.wait()).rejects.toThrow("closed");

    using folder = new Folder();
    using gone = open(folder.file());
    using _ = gone.on("error", () => {});
    const other = gone.rateLimit("api", { limit: 1, per: "1h" });
    other.try();
    const hopeless = other.wait();
    await turns(10);
    renameSync(folder.file(), folder.file("elsewhere.db"));
    await expect(within(hopeless, "it is told")).rejects.toThrow("while honkbun had it open");
  });

  test("is refused what can never be allowed, and leaves nothing behind", async () => {
    using db = atMinute();
    const limit = db.rateLimit("api", { limit: 2, per: "1m" });
    await expect(limit.wait({ cost: 3 })).rejects.toThrow(RangeError);
    await expect(limit.wait({ signal: AbortSignal.abort("no") })).rejects.toBe("no");
    expect(rows(db, "_honker_rate_limits")).toBe(0);
  });
});

describe("old rows of rate limits", () => {
  test("are swept by themselves, those of other limits too, and none that still counts", async () => {
    using db = atMinute(true);
    const minute = db.rateLimit("minute", { limit: 5, per: "1m" });
    const day = db.rateLimit("day", { limit: 5, per: "1d" });
    const bucket = db.rateLimit("bucket", { limit: 5, per: "1m", algorithm: "token-bucket" });
    const slow = db.rateLimit("slow", { limit: 5, per: "1d", algorithm: "token-bucket" });
    for (let key = 0; key < 50; key++) {
      for (const limit of [minute, day, bucket, slow]) limit.try({ key: String(key) });
    }
    await turns(20);
    db.clock.advance(2 * MINUTE);
    db.rateLimit("other", { limit: 1, per: "1m" }).try();
    await eventually(() => rows(db, "_honker_rate_limits") === 51, "windows that are over are gone");
    await eventually(() => rows(db, "_honkbun_buckets") === 50, "buckets that are full are gone");
    expect(day.try({ key: "7" }).remaining).toBe(3);
    expect(slow.try({ key: "7" }).remaining).toBe(3);
  });

  test("are swept though there are more than one sweep looks at", async () => {
    using db = atMinute(true);
    db.sqlite.run(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
       INSERT INTO _honker_rate_limits (name, window_start, count, ends_at) SELECT 'old' || i, 60, 1, 120 FROM n`,
    );
    db.rateLimit("api", { limit: 1, per: "1m" }).try();
    await eventually(() => rows(db, "_honker_rate_limits") === 1, "all are gone");
  });

  test("are left alone where only honker has counted", async () => {
    using db = atMinute(true);
    db.sqlite.run("INSERT INTO _honker_rate_limits (name, window_start, count) VALUES ('theirs', 60, 1)");
    db.sqlite.run(
      "INSERT INTO _honker_rate_limits (name, window_start, count, ends_at) VALUES ('ours', 60, 1, 120)",
    );
    db.rateLimit("api", { limit: 1, per: "1m" }).try();
    await eventually(() => rows(db, "_honker_rate_limits") === 2, "ours is gone");
  });
});

describe("db.rateLimit", () => {
  test("refuses what makes no sense, before anything is written", () => {
    using db = database();
    const limit = (options: object) => () => db.rateLimit("api", { limit: 1, per: "1m", ...options });
    expect(() => db.rateLimit("", { limit: 1, per: "1s" })).toThrow(TypeError);
    expect(() => db.rateLimit("a\u001fb", { limit: 1, per: "1s" })).toThrow("must not contain");
    expect(limit({ limit: 0 })).toThrow(RangeError);
    expect(limit({ limit: 1.5 })).toThrow(TypeError);
    expect(limit({ per: 60 })).toThrow(
      new RangeError(
        'rateLimit: per must be whole seconds for algorithm "fixed": 60 is 60 ms; did you mean "60s"?',
      ),
    );
    expect(limit({ per: "500ms" })).toThrow('got "500ms"');
    expect(limit({ per: 0 })).toThrow("per must be more than 0");
    expect(limit({ burst: 5 })).toThrow('burst needs algorithm "token-bucket"');
    expect(limit({ algorithm: "leaky" })).toThrow("rateLimit: algorithm");
    expect(limit({ limit: 1_000_000, per: 10, algorithm: "token-bucket" })).toThrow(
      "limit must be at most 10000",
    );
    expect(limit({ limit: 1, per: "30d", burst: 1_000_000, algorithm: "token-bucket" })).toThrow("70 years");
    const fine = db.rateLimit("api", { limit: 2, per: "1m" });
    for (const cost of [0, -1, 1.5, 3, Number.NaN]) expect(() => fine.try({ cost })).toThrow(RangeError);
    expect(() => fine.try({ key: "" })).toThrow("try: key must be a non-empty string");
    expect(() => fine.try({ keys: "a" } as object)).toThrow("try: unknown option keys");
    expect(rows(db, "_honker_rate_limits")).toBe(0);
  });
});
