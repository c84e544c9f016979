import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { AmbiguousTransactionError, open, PayloadError } from "../../src/index.ts";
import { Commits } from "../support/commits.ts";
import { database } from "../support/database.ts";
import { Folder } from "../support/folder.ts";

describe("publish", () => {
  test("stores an event under an offset that ascends over all topics, in honker's table", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const [a, b] = [db.stream<{ n: number }>("a"), db.stream("b")];
    expect([a.publish({ n: 1 }), b.publish(null), a.publish({ n: 2 }, { key: "k" })]).toEqual([1, 2, 3]);
    expect(a.read()).toMatchObject([
      { offset: 1, topic: "a", key: null, payload: { n: 1 }, at: new Date("2030-01-01T00:00:00Z") },
      { offset: 3, topic: "a", key: "k", payload: { n: 2 } },
    ]);
    expect(a.last()).toMatchObject({ offset: 3 });
    expect([a.length(), b.length(), db.stream("c").length()]).toEqual([2, 1, 0]);
    expect(db.stream("c").last()).toBeNull();
    expect(db.sqlite.query("SELECT topic, key, payload FROM _honker_stream WHERE offset = 3").get()).toEqual({
      topic: "a",
      key: "k",
      payload: '{"n":2}',
    });
  });

  test("joins a transaction, and its tx, and what is rolled back never appears", () => {
    using folder = new Folder();
    using db = open(folder.file());
    using other = open(folder.file());
    const stream = db.stream<number>("t");
    expect(() =>
      db.transaction(() => {
        stream.publish(1);
        expect(stream.read()).toHaveLength(1);
        expect(other.stream("t").read()).toEqual([]);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(stream.read()).toEqual([]);
    other.sqlite.run("BEGIN IMMEDIATE");
    stream.publish(2, { tx: other.sqlite });
    stream.publishMany([3, 4], { tx: other.sqlite });
    expect(stream.length()).toBe(0);
    other.sqlite.run("COMMIT");
    expect(stream.read().map(({ payload }) => payload)).toEqual([2, 3, 4]);
  });

  test("refuses what cannot be stored, before anything is written", () => {
    using db = database();
    const stream = db.stream("t", { schema: z.number() });
    expect(() => stream.publish("x" as never)).toThrow(PayloadError);
    expect(() => stream.publishMany([1, "x" as never])).toThrow(PayloadError);
    expect(() => stream.publish(1, { key: 5 as never })).toThrow("publish: key must be a string");
    expect(() => stream.publish(1, { keys: "k" } as never)).toThrow("publish: unknown option keys");
    expect(() => stream.publishMany(1 as never)).toThrow("publishMany: payloads must be iterable");
    expect(() => db.stream("")).toThrow("stream: topic must be a non-empty string");
    expect(() => db.stream("t", { retain: { maxCount: -1 } })).toThrow("stream: retain.maxCount");
    expect(() => db.stream("t", { keep: 1 } as never)).toThrow("stream: unknown option keep");
    expect(stream.length()).toBe(0);
  });

  test("many commit together, in order, with keys for all or for each", () => {
    using commits = new Commits();
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    const before = commits.count;
    const offsets = stream.publishMany(
      Array.from({ length: 100 }, (_, n) => n),
      { key: (n) => `k${n % 3}` },
    );
    expect(commits.count - before).toBe(1);
    expect(offsets).toEqual(Array.from({ length: 100 }, (_, n) => n + 1));
    expect(stream.read({ limit: 1_000 }).map(({ payload }) => payload)).toEqual(
      Array.from({ length: 100 }, (_, n) => n),
    );
    expect(stream.read({ key: "k1", after: 50, limit: 3 }).map(({ payload }) => payload)).toEqual([
      52, 55, 58,
    ]);
    expect(stream.publishMany([])).toEqual([]);
    expect(stream.publishMany([7], { key: "all" })).toEqual([101]);
    expect(stream.last()?.key).toBe("all");
  });

  test("publishAsync shares a commit, and never joins a transaction", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const stream = db.stream("t", { schema: z.number() });
    const before = commits.count;
    const all = [1, 2, "x" as never, 3].map((n) => stream.publishAsync(n));
    expect(all[2]).rejects.toThrow(PayloadError);
    const settled = await Promise.allSettled(all);
    expect(settled.map((one) => (one.status === "fulfilled" ? one.value : null))).toEqual([1, 2, null, 3]);
    expect(commits.count - before).toBe(1);
    expect(() => db.transaction(() => void stream.publishAsync(4))).toThrow(AmbiguousTransactionError);
  });

  test("goes on where a trigger of the application's inserts others between", () => {
    using db = database();
    db.sqlite.run(
      `CREATE TRIGGER echo AFTER INSERT ON _honker_stream WHEN new.topic = 't'
       BEGIN INSERT INTO _honker_stream (topic, payload) VALUES ('echo', new.payload); END`,
    );
    const offsets = db.stream<number>("t").publishMany(Array.from({ length: 40 }, (_, n) => n));
    expect(
      db
        .stream("t")
        .read({ limit: 100 })
        .map(({ offset }) => offset),
    ).toEqual(offsets);
  });
});

describe("trim", () => {
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

  test("deletes the oldest, by count and by age, of its topic alone", () => {
    using db = database();
    const stream = db.stream<number>("t");
    db.stream("other").publishMany(numbers(5));
    stream.publishMany(numbers(5));
    db.clock.advance("1h");
    stream.publishMany(numbers(5));
    expect(stream.trim({ maxCount: 7 })).toBe(3);
    expect(stream.read().map(({ payload }) => payload)).toEqual([3, 4, 0, 1, 2, 3, 4]);
    expect(stream.trim({ maxAge: "30m" })).toBe(2);
    expect(stream.trim({ maxAge: "30m" })).toBe(0);
    expect(stream.length()).toBe(5);
    expect(stream.trim({ maxCount: 0 })).toBe(5);
    expect(db.stream("other").length()).toBe(5);
    expect(stream.publish(1)).toBeGreaterThan(10);
  });

  test("leaves what a consumer or a group has yet to handle, unless it is told to go past it", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    const offsets = stream.publishMany(numbers(10));
    db.sqlite.run(
      `INSERT INTO _honker_stream_consumers (name, topic, offset) VALUES ('honker', 't', ${offsets[5]})`,
    );
    expect(stream.trim({ maxCount: 1 })).toBe(6);
    stream.seek("honker", "end");
    const gate = Promise.withResolvers<void>();
    const worker = stream.group("g").work(() => gate.promise, { concurrency: 2 });
    expect(stream.trim({ maxCount: 1 })).toBe(0); // nothing was handed on
    gate.resolve();
    await worker.stop();
    stream.publishMany(numbers(5));
    stream.seek("slow", "start");
    expect(stream.trim({ maxCount: 0 })).toBe(0);
    expect(stream.trim({ maxCount: 0 }, { pastConsumers: true })).toBeGreaterThan(4);
    expect(stream.length()).toBe(0);
  });

  test("happens by itself with retain, portion by portion", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t", { retain: { maxCount: 100 } });
    stream.publishMany(numbers(3_500));
    const end = Date.now() + 5_000;
    while (stream.length() > 100 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(stream.length()).toBe(100);
    expect(stream.read({ limit: 1 })[0]?.payload).toBe(3_400);
  });

  test("refuses bad bounds", () => {
    using db = database();
    expect(() => db.stream("t").trim(undefined as never)).toThrow("trim: retain must be an object");
    expect(() => db.stream("t").trim({ maxAge: "1 day" as never })).toThrow("trim: maxAge");
    expect(() => db.stream("t").trim({ maxCount: 1 }, { force: true } as never)).toThrow(
      "trim: unknown option force",
    );
  });
});
