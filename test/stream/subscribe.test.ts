import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import {
  type Honkbun,
  OffsetTrimmedError,
  open,
  type StreamEvent,
  type StreamSource,
} from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

/** The next so many payloads. */
async function take<E>(source: StreamSource<E>, count: number): Promise<E[]> {
  const found: E[] = [];
  while (found.length < count) {
    const { value, done } = await within(source.next(), `event ${found.length}`);
    if (done) break;
    found.push((value as StreamEvent<E>).payload);
  }
  return found;
}

const saved = (db: Honkbun, consumer: string): number | undefined =>
  db.sqlite
    .query<{ offset: number }, [string]>("SELECT offset FROM _honker_stream_consumers WHERE name = ?")
    .get(consumer)?.offset;

for (const file of [false, true]) {
  describe(`subscribe, ${file ? "on a file" : "in memory"}`, () => {
    test("replays what is there, then follows what comes, in order", async () => {
      using db = database({ file });
      const stream = db.stream<number>("t");
      stream.publishMany(numbers(1_200));
      const source = stream.subscribe();
      expect(await take(source, 1_200)).toEqual(numbers(1_200));
      const next = source.next();
      db.stream("other").publish("x");
      stream.publish(1_200);
      expect((await within(next, "the next")).value).toMatchObject({ payload: 1_200 });
      await source.return?.();
      expect((await source.next()).done).toBe(true);
      expect(db.stats().wake.mode).toBe("idle");
    });

    test("begins where it is told: at the end, after an offset, from a time on", async () => {
      using db = database({ file, now: new Date("2030-01-01T00:00:00Z") });
      const stream = db.stream<number>("t");
      for (const n of numbers(20)) {
        stream.publish(n);
        db.stream("other").publish(n);
        db.clock.advance("1m");
      }
      const all: [Parameters<typeof stream.subscribe>[0], number][] = [
        [{ from: "start" }, 0],
        [{ from: 7 }, 4], // offsets 1, 3, 5, 7 are before
        [{ from: new Date("2030-01-01T00:05:00Z") }, 5],
        [{ from: new Date("2030-01-01T00:05:01Z") }, 6],
        [{ from: new Date("2020-01-01T00:00:00Z") }, 0],
      ];
      for (const [options, first] of all) {
        const source = stream.subscribe(options);
        expect(await take(source, 1)).toEqual([first]);
        await source.return?.();
      }
      const late = stream.subscribe({ from: "end" });
      const next = late.next();
      stream.publish(99);
      expect((await within(next, "the next")).value).toMatchObject({ payload: 99 });
    });

    test("gives those of a key alone", async () => {
      using db = database({ file });
      const stream = db.stream<number>("t");
      stream.publishMany(numbers(10), { key: (n) => `k${n % 2}` });
      const source = stream.subscribe({ key: "k1" });
      expect(await take(source, 5)).toEqual([1, 3, 5, 7, 9]);
      const next = source.next();
      stream.publish(10, { key: "k0" });
      stream.publish(11, { key: "k1" });
      expect((await within(next, "the next")).value).toMatchObject({ payload: 11 });
    });

    test("shows nothing of a transaction before it commits, nor after it rolls back", async () => {
      using db = database({ file });
      const stream = db.stream<number>("t");
      const source = stream.subscribe();
      const next = source.next();
      expect(() =>
        db.transaction(() => {
          stream.publish(1);
          throw new Error("no");
        }),
      ).toThrow("no");
      db.sqlite.run("BEGIN");
      stream.publish(2, { tx: db.sqlite });
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(Bun.peek.status(next)).toBe("pending");
      db.sqlite.run("ROLLBACK");
      stream.publish(3);
      expect((await within(next, "the next")).value).toMatchObject({ payload: 3 });
    });
  });
}

describe("a consumer", () => {
  test("goes on where it was: an event is handled when the next one is asked for", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    const seen: number[] = [];
    for await (const { payload } of stream.subscribe({ consumer: "c" })) {
      seen.push(payload);
      if (payload === 4) break; // comes again
    }
    expect(saved(db, "c")).toBe(4);
    expect(stream.consumers()).toEqual([{ name: "c", offset: 4, lag: 6 }]);
    const boom = async (): Promise<void> => {
      for await (const { payload } of stream.subscribe({ consumer: "c" })) {
        seen.push(payload);
        if (payload === 6) throw new Error("no");
      }
    };
    expect(boom()).rejects.toThrow("no");
    await boom().catch(() => {});
    expect(seen.slice(0, 8)).toEqual([0, 1, 2, 3, 4, 4, 5, 6]);
  });

  test("has handled the current event, too, when save says so", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    const source = stream.subscribe({ consumer: "c" });
    await take(source, 3);
    source.save();
    expect(saved(db, "c")).toBe(3);
    await source.return?.();
    expect(await take(stream.subscribe({ consumer: "c" }), 1)).toEqual([3]);
  });

  test("saves together with the effects of a transaction, or not at all", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    const source = stream.subscribe({ consumer: "c" });
    await take(source, 2);
    await eventually(() => saved(db, "c") === 0, "it is registered");
    expect(() =>
      db.transaction(() => {
        source.save();
        expect(saved(db, "c")).toBe(2);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(saved(db, "c")).toBe(0);
    await source.return?.();
    expect(await take(stream.subscribe({ consumer: "c" }), 1)).toEqual([1]);
  });

  test("is saved when it is idle, after a thousand events, after a second, and on close", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(3_000));
    const source = stream.subscribe({ consumer: "c" });
    await take(source, 1_002);
    await eventually(() => (saved(db, "c") ?? 0) >= 1_000, "a thousand are saved");
    await take(source, 10);
    await eventually(() => saved(db, "c") === 1_011, "it is saved after a second");
    await take(source, 1_988);
    void source.next();
    await eventually(() => saved(db, "c") === 3_000, "it is saved when it is idle");
    const other = open(folder.file());
    const closing = other.stream<number>("t").subscribe({ consumer: "d" });
    await take(closing, 10);
    other.close();
    expect(saved(db, "d")).toBe(9);
    const third = open(folder.file());
    await take(third.stream<number>("t").subscribe({ consumer: "e" }), 10);
    await third.shutdown({ timeout: 50 }); // nobody will finish the tenth
    expect(saved(db, "e")).toBe(9);
  });

  test("is never set back by saving, and shares its offset with honker's", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    db.sqlite.run("INSERT INTO _honker_stream_consumers (name, topic, offset) VALUES ('c', 't', 4)");
    const source = stream.subscribe({ consumer: "c" });
    expect(await take(source, 2)).toEqual([4, 5]);
    db.sqlite.run("UPDATE _honker_stream_consumers SET offset = 9");
    source.save();
    expect(saved(db, "c")).toBe(9);
    const replay = stream.subscribe({ consumer: "c", from: "start" });
    expect(await take(replay, 3)).toEqual([0, 1, 2]);
    await replay.return?.();
    expect(saved(db, "c")).toBe(9);
  });

  test("follows a seek, back and ahead, of whatever process", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    using other = open(folder.file());
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    const source = stream.subscribe({ consumer: "c" });
    expect(await take(source, 3)).toEqual([0, 1, 2]);
    other.stream("t").seek("c", 7);
    await eventually(() => saved(db, "c") === 7, "it is sent there");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await take(source, 3)).toEqual([7, 8, 9]);
    const next = source.next();
    stream.seek("c", "start");
    expect((await within(next, "from the start")).value).toMatchObject({ payload: 0 });
    expect(await take(source, 9)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    stream.seek("other", "start"); // of another consumer
    await source.return?.();
    expect(saved(db, "c")).toBe(9);
    expect(() =>
      db.transaction(() => {
        stream.seek("c", "start");
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(saved(db, "c")).toBe(9);
  });

  test("loses nothing of what it has handled when its signal and close come together", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.stream<number>("t").publishMany(numbers(5));
    const other = open(folder.file());
    const stop = new AbortController();
    for await (const { payload } of other
      .stream<number>("t")
      .subscribe({ consumer: "c", signal: stop.signal })) {
      if (payload === 2) stop.abort();
    }
    other.close();
    expect(saved(db, "c")).toBe(3);
    const third = open(folder.file());
    const source = third
      .stream<number>("t")
      .subscribe({ consumer: "d", signal: AbortSignal.any([stop.signal]) });
    await source.next();
    const again = new AbortController();
    const loop = third.stream<number>("t").subscribe({ consumer: "e", signal: again.signal });
    await take(loop, 3);
    again.abort();
    third.close();
    expect(saved(db, "e")).toBe(2);
  });

  test("is not moved by a seek from before it began", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    const other = stream.subscribe({ from: "end" });
    void other.next();
    stream.seek("c", 0);
    expect(await take(stream.subscribe({ consumer: "c", from: 3 }), 2)).toEqual([3, 4]);
    stream.seek("d", 2);
    const source = stream.subscribe({ consumer: "d" });
    expect(await take(source, 2)).toEqual([2, 3]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await take(source, 1)).toEqual([4]);
  });

  test("lets its body finish on shutdown, and counts what that has handled", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.stream<number>("t").publishMany(numbers(5));
    const log: unknown[] = [];
    const loop = (async () => {
      for await (const { payload } of db.stream<number>("t").subscribe({ consumer: "c" })) {
        log.push(`begin ${payload}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
        log.push([`end ${payload}`, db.stream("t").length()]);
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await within(db.shutdown(), "it has finished");
    await loop;
    expect(log).toEqual(["begin 0", ["end 0", 5]]);
    using again = open(folder.file());
    expect(saved(again, "c")).toBe(1);
  });

  test("does not keep shutdown longer than its timeout, though somebody holds the lock", async () => {
    using folder = new Folder();
    using other = open(folder.file());
    const db = open(folder.file(), { busyTimeout: 100 });
    db.on("error", () => {});
    db.stream<number>("t").publishMany(numbers(5));
    const source = db.stream<number>("t").subscribe({ consumer: "c" });
    await take(source, 3);
    other.sqlite.run("BEGIN IMMEDIATE");
    await within(db.shutdown({ timeout: 50 }), "it is over", 4_000);
    other.sqlite.run("ROLLBACK");
  });

  test("of a key does not lag behind when there are none of its events", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5), { key: "other" });
    const source = stream.subscribe({ consumer: "c", key: "mine" });
    const next = source.next();
    await eventually(() => saved(db, "c") === 5, "it has passed them");
    expect(stream.trim({ maxCount: 0 })).toBe(5);
    stream.publish(7, { key: "mine" });
    expect((await within(next, "its own comes")).value).toMatchObject({ payload: 7 });
  });

  test("with several calls that wait has handled nothing of what is in hand", async () => {
    using db = database({ file: true });
    const stream = db.stream("t", { schema: z.number() });
    db.on("error", () => {});
    const source = stream.subscribe({ consumer: "c" });
    const both = [source.next(), source.next()];
    db.stream<unknown>("t").publishMany([1, "x"]);
    await within(both[0] as Promise<unknown>, "the first");
    await new Promise((resolve) => setTimeout(resolve, 30));
    await source.return?.();
    expect(saved(db, "c")).toBe(0);
  });

  test("that is behind what was trimmed is told, or goes on with a report, but never silently", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    stream.seek("c", 2);
    stream.trim({ maxCount: 3 }, { pastConsumers: true });
    const source = stream.subscribe({ consumer: "c" });
    expect(source.next()).rejects.toMatchObject({ code: "HONKBUN_OFFSET_TRIMMED", through: 7 });
    await source.next().catch((error) => expect(error).toBeInstanceOf(OffsetTrimmedError));
    const told: number[] = [];
    const going = stream.subscribe({ consumer: "c", onTrimmed: (through) => void told.push(through) });
    expect(await take(going, 3)).toEqual([7, 8, 9]);
    expect(told).toEqual([7]);
    // Who begins at the start, or at a time, begins with what there is.
    expect(await take(stream.subscribe({ from: new Date(0) }), 1)).toEqual([7]);
    expect(await take(stream.subscribe(), 1)).toEqual([7]);
    expect(await take(stream.subscribe({ consumer: "new" }), 1)).toEqual([7]);
  });

  test("that begins with what is left is told of no gap when events are trimmed before its first read", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    const sources = [
      stream.subscribe(),
      stream.subscribe({ from: "start" }),
      stream.subscribe({ consumer: "c" }),
    ];
    const after = stream.subscribe({ from: 0 });
    const late = stream.subscribe();
    stream.trim({ maxCount: 3 }, { pastConsumers: true });
    for (const source of sources) expect(await take(source, 3)).toEqual([7, 8, 9]);
    expect(await after.next().catch((error: unknown) => error)).toBeInstanceOf(OffsetTrimmedError);
    // What came when it was there already it should have got.
    stream.publishMany(numbers(5));
    stream.trim({ maxCount: 1 }, { pastConsumers: true });
    expect(await late.next().catch((error: unknown) => error)).toBeInstanceOf(OffsetTrimmedError);
    // Nor what it has not read of what was there.
    const first = stream.subscribe({ from: "start" });
    expect(await take(first, 1)).toEqual([4]);
    stream.publishMany(numbers(5));
    stream.trim({ maxCount: 1 }, { pastConsumers: true });
    expect(await first.next().catch((error: unknown) => error)).toBeInstanceOf(OffsetTrimmedError);
  });

  test("is told once what it has handled is saved, however long that takes", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using other = new Database(folder.file());
    const stream = db.stream<number>("t");
    stream.publish(1);
    const source = stream.subscribe({ consumer: "c" });
    expect(await take(source, 1)).toEqual([1]);
    stream.publish(2);
    stream.trim({ maxCount: 0 }, { pastConsumers: true });
    other.run("BEGIN IMMEDIATE");
    const failed = source.next().catch((error: unknown) => [error, saved(db, "c")]);
    await Bun.sleep(20); // what rejects and nobody listens to would end the process meanwhile
    other.run("COMMIT");
    expect(await failed).toEqual([expect.any(OffsetTrimmedError), 1]);
  });

  test("registers itself, so that what it has yet to read is not trimmed", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    const source = stream.subscribe({ consumer: "c" });
    await eventually(() => saved(db, "c") === 0, "it is registered");
    expect(stream.trim({ maxCount: 0 })).toBe(0);
    expect(await take(source, 10)).toEqual(numbers(10));
  });
});

test("a subscriber that begins in a transaction which rolls back misses nothing after it", async () => {
  for (const file of [false, true]) {
    using db = database({ file });
    const stream = db.stream<number>("t");
    let source: StreamSource<number> | undefined;
    expect(() =>
      db.transaction(() => {
        stream.publishMany(numbers(3));
        source = stream.subscribe({ from: "end" });
        throw new Error("no");
      }),
    ).toThrow("no");
    stream.publish(9);
    expect(await take(source as StreamSource<number>, 1)).toEqual([9]);
  }
});

test("an event that does not fit the schema is reported, and the others come", async () => {
  using db = database({ file: true });
  db.stream<unknown>("t").publishMany([1, "x", 3]);
  const errors: unknown[] = [];
  db.on("error", ({ error, where }) => void errors.push([(error as Error).name, where]));
  const source = db.stream("t", { schema: z.number() }).subscribe({ consumer: "c" });
  expect(await take(source, 2)).toEqual([1, 3]);
  expect(errors).toEqual([["PayloadError", "subscription to t"]]);
});

test("a loop ends by its signal, by close, and fails when the file is replaced", async () => {
  using db = database({ file: true });
  const stream = db.stream("t");
  const stop = new AbortController();
  const next = stream.subscribe({ signal: stop.signal }).next();
  stop.abort();
  expect((await next).done).toBe(true);
  expect((await stream.subscribe({ signal: stop.signal }).next()).done).toBe(true);
  const other = stream.subscribe().next();
  db.close();
  expect((await other).done).toBe(true);
});

describe("subscribe refuses", () => {
  for (const [what, options, message] of [
    ["an unknown option", { keys: "k" }, "subscribe: unknown option keys"],
    ["an empty consumer", { consumer: "" }, "subscribe: consumer"],
    [
      "a position that is none",
      { from: "now" },
      'subscribe: from must be "start", "end", an offset or a Date',
    ],
    ["a negative offset", { from: -1 }, "subscribe: from must be an offset of 0 or more"],
    ["an invalid date", { from: new Date("x") }, 'subscribe: from must be "start"'],
  ] as const) {
    test(what, () => {
      using db = database();
      expect(() => db.stream("t").subscribe(options as never)).toThrow(message);
    });
  }

  test("to save without a consumer, and to seek without a name", () => {
    using db = database();
    expect(() => db.stream("t").subscribe().save()).toThrow("save: this subscription has no consumer");
    expect(() => db.stream("t").seek("", "start")).toThrow("seek: consumer");
    expect(() => db.stream("t").seek("c", "now" as never)).toThrow("seek: to");
  });
});

test("four publishers and three subscribers in processes of their own: each sees all, in order", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  await using stack = new AsyncDisposableStack();
  const subscribers = [0, 1, 2].map((n) =>
    stack.use(new Process("stream-subscriber", folder.file(), `c${n}`, 20_000)),
  );
  for (const subscriber of subscribers) await subscriber.read();
  const publishers = [0, 1, 2, 3].map((n) =>
    stack.use(new Process("stream-publisher", folder.file(), n, 5_000)),
  );
  for (const publisher of publishers) expect(await publisher.exited).toBe(0);
  for (const subscriber of subscribers) {
    expect(await subscriber.read<object>()).toEqual({
      count: 20_000,
      isAscending: true,
      isEachInOrder: true,
    });
  }
  expect(db.stream("t").length()).toBe(20_000);
}, 60_000);
