import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { open, UnrecoverableError } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe("a group", () => {
  test("gives each event to one member, those that are there and those that come", async () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename, { clock: () => db.clock.now, wake: { safetyInterval: false } });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(300));
    const seen: number[] = [];
    const members = [db, other].map((handle) =>
      handle
        .stream<number>("t")
        .group("g")
        .work(({ payload }) => void seen.push(payload), { concurrency: 3 }),
    );
    await eventually(() => seen.length === 300, "all are handled");
    stream.publishMany([300, 301]);
    await eventually(() => seen.length === 302, "what comes is handled");
    for (const member of members) await member.stop();
    expect(seen.toSorted((a, b) => a - b)).toEqual(numbers(302));
    expect(stream.group("g").lag()).toBe(0);
    expect(stream.group("g").pending()).toBe(0);
    expect(db.sqlite.query("SELECT * FROM _honker_live").all()).toEqual([]);
  });

  test("knows its events: payload by the schema, offset, key and time; another group gets them, too", async () => {
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const stream = db.stream("t", { schema: z.object({ at: z.coerce.date() }) });
    const offset = stream.publish({ at: "2031-01-01T00:00:00Z" }, { key: "k" });
    for (const name of ["a", "b"]) {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const member = stream.group(name).work((event, delivery) => {
        const { attempt, maxAttempts, payload } = delivery;
        const { key, topic, at } = event;
        resolve({
          offset: event.offset,
          key,
          topic,
          at,
          payload: event.payload,
          same: payload === event.payload,
          attempt,
          maxAttempts,
        });
      });
      expect(await within(promise, "it is delivered")).toEqual({
        offset,
        key: "k",
        topic: "t",
        at: new Date("2030-01-01T00:00:00Z"),
        payload: { at: new Date("2031-01-01T00:00:00Z") },
        same: true,
        attempt: 1,
        maxAttempts: 3,
      });
      await member.stop();
    }
  });

  test("delivers again what failed, with backoff, and keeps it as dead after the last delivery", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    const [first = 0, second = 0] = stream.publishMany([1, 2, 3]);
    const group = stream.group("g");
    const seen: number[][] = [];
    const member = group.work(
      ({ payload }, { attempt }) => {
        seen.push([payload, attempt]);
        if (payload === 1) throw new Error("no");
        if (payload === 2) throw new UnrecoverableError("never");
      },
      { maxDeliveries: 2, backoff: { type: "fixed", base: "1m", jitter: 0 } },
    );
    await eventually(() => seen.length === 3 && group.pending() === 1, "one is to be delivered again");
    expect(group.dead.list()).toMatchObject([{ offset: second, payload: 2 }]);
    db.clock.advance("1m");
    await eventually(() => group.dead.list().length === 2, "it is dead");
    expect(seen).toEqual([
      [1, 1],
      [2, 1],
      [3, 1],
      [1, 2],
    ]);
    expect(group.dead.list({ after: first, limit: 5 })).toMatchObject([{ offset: second }]);
    expect(group.pending()).toBe(0);
    expect(group.dead.retry([first])).toBe(1);
    await eventually(() => seen.length === 5, "it is delivered again");
    await eventually(() => group.pending() === 1, "it is to be delivered again");
    expect(group.dead.purge("all")).toBe(1);
    expect(group.dead.list()).toEqual([]);
    await member.stop();
  });

  test("is told from others, whatever colons are in the names", async () => {
    using db = database({ file: true });
    const seen: string[] = [];
    const members = [
      db
        .stream("a")
        .group("b:c")
        .work(({ topic }) => void seen.push(topic)),
      db
        .stream("a:b")
        .group("c")
        .work(({ topic }) => void seen.push(topic)),
    ];
    db.stream("a:b").publishMany(numbers(20));
    await eventually(() => seen.length === 20, "all are handled");
    expect(new Set(seen)).toEqual(new Set(["a:b"]));
    for (const member of members) await member.stop();
  });

  test("counts what is pending, and what it lags behind", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(200));
    const group = stream.group("g");
    expect([group.pending(), group.lag()]).toEqual([0, 200]);
    const gate = Promise.withResolvers<void>();
    const member = group.work(() => gate.promise, { concurrency: 3 });
    await eventually(() => group.pending() === 3, "three are delivered");
    expect(group.lag()).toBe(197);
    gate.resolve();
    await eventually(() => group.lag() === 0 && group.pending() === 0, "all are handled");
    await member.stop();
  });

  test("settles by the delivery, and within a transaction", async () => {
    using db = database({ file: true });
    db.sqlite.run("CREATE TABLE effects (v INTEGER)");
    const stream = db.stream<number>("t");
    stream.publishMany([1, 2]);
    const group = stream.group("g");
    const member = group.work(({ payload }, delivery) => {
      if (payload === 1) delivery.snooze("1h");
      else {
        db.transaction((tx) => {
          tx.run("INSERT INTO effects VALUES (?)", [payload]);
          delivery.ack();
        });
      }
    });
    await eventually(() => group.lag() === 1 && group.pending() === 0, "one is snoozed");
    expect(db.sqlite.query("SELECT v FROM effects").all()).toEqual([{ v: 2 }]);
    await member.stop();
  });

  test('keeps the order of a key with order: "key", while other keys run beside it', async () => {
    using db = database({ file: true });
    const stream = db.stream<{ readonly key: string; readonly n: number }>("t");
    stream.publishMany(
      numbers(60).map((n) => ({ key: `k${n % 3}`, n })),
      { key: ({ key }) => key },
    );
    const running = new Map<string, number>();
    const seen = new Map<string, number[]>();
    let [together, isDouble, failed] = [0, false, false];
    const member = stream.group("g").work(
      async ({ payload: { key, n } }) => {
        running.set(key, (running.get(key) ?? 0) + 1);
        if ((running.get(key) ?? 0) > 1) isDouble = true;
        together = Math.max(together, [...running.values()].filter((count) => count > 0).length);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running.set(key, (running.get(key) ?? 0) - 1);
        if (n === 9 && !failed) {
          failed = true;
          throw new Error("once more");
        }
        seen.set(key, [...(seen.get(key) ?? []), n]);
      },
      { concurrency: 6, order: "key", backoff: { type: "fixed", base: 5 } },
    );
    const ticking = setInterval(() => db.clock.advance(10), 5);
    await eventually(() => [...seen.values()].flat().length === 60, "all are handled");
    clearInterval(ticking);
    await member.stop();
    for (const [key, order] of seen) {
      expect(order).toEqual(numbers(60).filter((n) => `k${n % 3}` === key));
    }
    expect(isDouble).toBe(false);
    expect(together).toBeGreaterThan(1);
  });

  test("hands on no more than it can use: what waits for a key does not pile up", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(1_500), { key: "same" });
    const gate = Promise.withResolvers<void>();
    const member = stream.group("g").work(() => gate.promise, { order: "key", concurrency: 4 });
    await eventually(() => member.stopped !== undefined && stream.group("g").pending() === 1, "one runs");
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { n } = db.sqlite.query("SELECT count(*) AS n FROM _honker_live").get() as { n: number };
    expect(n).toBeLessThan(1_200);
    gate.resolve();
    const last = db.sqlite.query<{ id: number }, []>("SELECT max(id) AS id FROM _honker_live");
    await eventually(() => (last.get()?.id ?? 0) > n, "more are handed on");
    await member.stop();
  });

  test("goes on after events that were trimmed past it, and says so", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    const first = stream.group("g").work(() => {});
    await first.stop();
    stream.publishMany(numbers(10));
    stream.trim({ maxCount: 3 }, { pastConsumers: true });
    const errors: unknown[] = [];
    db.on("error", ({ error, where }) => void errors.push([(error as { code?: string }).code, where]));
    const seen: number[] = [];
    const member = stream.group("g").work(({ payload }) => void seen.push(payload));
    await eventually(() => seen.length === 3, "the others are handled");
    expect(errors).toEqual([["HONKBUN_OFFSET_TRIMMED", "group g of t"]]);
    await member.stop();
  });

  test("is not held up by an event that does not fit the schema", async () => {
    using db = database({ file: true });
    db.stream<unknown>("t").publishMany([1, "x", 3]);
    const stream = db.stream("t", { schema: z.number() });
    const seen: number[] = [];
    const member = stream.group("g").work(({ payload }) => void seen.push(payload));
    await eventually(() => seen.length === 2, "the others are handled");
    await eventually(() => stream.group("g").dead.list().length === 1, "it is dead");
    expect(stream.group("g").dead.list()).toMatchObject([{ offset: 2, payload: "x" }]);
    await member.stop();
  });

  test("refuses bad arguments", () => {
    using db = database();
    const group = db.stream("t").group("g");
    expect(() => db.stream("t").group("")).toThrow("group: name");
    expect(() => group.work(1 as never)).toThrow("group.work: handler must be a function");
    expect(() => group.work(() => {}, { order: "id" as never })).toThrow("group.work: order");
    expect(() => group.work(() => {}, { maxDeliveries: 0 })).toThrow("group.work: maxDeliveries");
    expect(() => group.work(() => {}, { concurrency: 0 })).toThrow("work: concurrency");
    expect(() => group.dead.retry([1.5])).toThrow("group.dead.retry: which");
    expect(db.sqlite.query("SELECT * FROM _honkbun_stream_groups").all()).toEqual([]);
  });
});

test("of four members, one killed every moment, every event is handled, none by two at once, in the order of keys", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  using log = new Database(folder.file("notes.db"));
  log.run("PRAGMA journal_mode = WAL");
  log.run("PRAGMA busy_timeout = 10000");
  log.run("CREATE TABLE notes (n INTEGER, key TEXT, what TEXT, pid INTEGER)");
  const stream = db.stream<number>("t");
  await using stack = new AsyncDisposableStack();
  const start = async (): Promise<Process> => {
    const member = stack.use(new Process("stream-member", folder.file(), folder.file("notes.db")));
    await member.read();
    return member;
  };
  const members = await Promise.all([start(), start(), start(), start()]);
  const killed: number[] = [];
  for (let round = 0; round < 8; round++) {
    stream.publishMany(
      numbers(100).map((n) => round * 100 + n),
      { key: (n) => `k${n % 5}` },
    );
    await new Promise((resolve) => setTimeout(resolve, 400));
    const victim = members[round % 4];
    victim?.kill("SIGKILL");
    await victim?.exited;
    killed.push(victim?.pid ?? 0);
    members[round % 4] = await start();
  }
  const group = stream.group("g");
  await eventually(() => group.lag() === 0 && group.pending() === 0, "all are handled");
  expect(group.dead.list()).toEqual([]);
  const notes = log
    .query<{ n: number; key: string; what: string; pid: number }, []>("SELECT * FROM notes ORDER BY rowid")
    .all();
  expect(new Set(notes.filter(({ what }) => what === "end").map(({ n }) => n)).size).toBe(800);
  // Of each key one runs at a time; one that began and did not end was killed.
  const running = new Map<string, number>();
  const last = new Map<string, number>();
  for (const { n, key, what, pid } of notes) {
    const other = running.get(key);
    if (what === "begin") {
      if (other !== undefined) expect(killed).toContain(other);
      running.set(key, pid);
      expect(n).toBeGreaterThanOrEqual(last.get(key) ?? 0);
      last.set(key, n);
    } else running.delete(key);
  }
}, 60_000);
