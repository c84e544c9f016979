import { afterAll, describe, expect, test } from "bun:test";

import { type Honkbun, LaggedError, type Notification, PayloadError } from "../../src/index.ts";
import type { TestHonkbun } from "../../src/testing/test-database.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";

/** Listens by callback and gives what it has heard. */
function record(db: Honkbun, channels: string | string[]): unknown[] {
  const heard: unknown[] = [];
  db.listen(channels, ({ payload }) => void heard.push(payload));
  return heard;
}

async function take<T>(source: AsyncIterator<Notification<T>>, count: number): Promise<T[]> {
  const payloads: T[] = [];
  while (payloads.length < count) {
    const { value } = await within(source.next(), `notification ${payloads.length + 1}`);
    payloads.push(value.payload);
  }
  return payloads;
}

for (const file of [false, true]) {
  describe(`listen, ${file ? "on a file" : "in memory"}`, () => {
    test("delivers to every listener of the channel, in the order of commits", async () => {
      using db = database({ file });
      const [first, second, other] = [record(db, "c"), record(db, ["c", "d"]), record(db, "d")];
      for (let n = 0; n < 5; n++) {
        db.notify("c", n);
        db.notify("d", n + 10);
      }
      await eventually(() => second.length === 10, "all are heard");
      expect(first).toEqual([0, 1, 2, 3, 4]);
      expect(second).toEqual([0, 10, 1, 11, 2, 12, 3, 13, 4, 14]);
      expect(other).toEqual([10, 11, 12, 13, 14]);
    });

    test("gives id, channel, payload and time", async () => {
      using db = database({ file, now: new Date("2030-01-02T03:04:05.678Z") });
      const next = db.listen<{ a: number }>("c").next();
      const id = db.notify("c", { a: 1 });
      expect((await next).value).toEqual({
        id,
        channel: "c",
        payload: { a: 1 },
        at: new Date("2030-01-02T03:04:05Z"),
      });
    });

    test("is attached when the call returns: nothing from before, everything after", async () => {
      using db = database({ file });
      db.notify("c", "before");
      const early = record(db, "c");
      const source = db.listen<string>("c");
      db.notify("c", "after");
      const late = record(db, "c");
      db.notify("c", "later");
      expect(await take(source, 2)).toEqual(["after", "later"]);
      await eventually(() => late.length === 1, "the late listener hears");
      expect(early).toEqual(["after", "later"]);
      expect(late).toEqual(["later"]);
    });

    test("delivers nothing before the commit and nothing that is rolled back", async () => {
      using db = database({ file });
      const heard = record(db, "c");
      expect(() =>
        db.transaction(() => {
          db.notify("c", "no");
          throw new Error("no");
        }),
      ).toThrow("no");
      db.sqlite.run("BEGIN IMMEDIATE");
      db.notify("c", "yes", { tx: db.sqlite });
      db.clock.advance(1); // has everything collected that can be read
      expect(heard).toEqual([]);
      db.sqlite.run("COMMIT");
      await eventually(() => heard.length > 0, "the committed one is heard");
      expect(heard).toEqual(["yes"]);
    });

    test("hears what is sent after a rollback, though its id was given before", async () => {
      using db = database({ file });
      const heard = record(db, "c");
      for (let n = 0; n < 3; n++) {
        db.sqlite.run("BEGIN");
        for (let lost = 0; lost < 5; lost++) db.notify("c", "no", { tx: db.sqlite });
        db.sqlite.run("ROLLBACK");
        db.notify("c", n);
        await eventually(() => heard.length === n + 1, "the committed one is heard");
      }
      expect(heard).toEqual([0, 1, 2]);
    });

    test("hears what follows when it was attached in a transaction that rolled back", async () => {
      using db = database({ file });
      const heard: unknown[] = [];
      expect(() =>
        db.transaction(() => {
          for (let lost = 0; lost < 5; lost++) db.notify("c", "no");
          db.listen("c", ({ payload }) => void heard.push(payload));
          throw new Error("no");
        }),
      ).toThrow("no");
      db.notify("c", "yes");
      await eventually(() => heard.length > 0, "the committed one is heard");
      expect(heard).toEqual(["yes"]);
    });

    test("delivers each once, in order, also when a listener moves the clock", async () => {
      using db = database({ file });
      const heard: unknown[] = [];
      db.listen("c", ({ payload }) => {
        heard.push(payload);
        db.clock.advance(1); // which has everything collected
      });
      for (let n = 0; n < 4; n++) db.notify("c", n);
      await eventually(() => heard.length >= 4, "all are heard");
      expect(heard).toEqual([0, 1, 2, 3]);
    });

    test("gives nothing to a source that another listener of the channel has just ended", async () => {
      using db = database({ file });
      let ended = false;
      db.listen("c", () => {
        void source.return?.();
        ended = true;
      });
      const source = db.listen("c");
      db.notify("c");
      await eventually(() => ended, "it is ended");
      expect((await source.next()).done).toBe(true);
    });

    test("ends normally by break, by its signal and by close", async () => {
      using db = database({ file });
      const controller = new AbortController();
      const [broken, aborted, closed] = [
        db.listen("c"),
        db.listen("c", { signal: controller.signal }),
        db.listen("c"),
      ];
      db.notify("c");
      for await (const { channel } of broken) {
        expect(channel).toBe("c");
        break;
      }
      expect(await broken.next()).toEqual({ done: true, value: undefined });
      await aborted.next();
      const [abortedNext, closedFirst] = [aborted.next(), await closed.next()];
      expect(closedFirst.done).toBe(false);
      const closedNext = closed.next();
      controller.abort();
      expect((await abortedNext).done).toBe(true);
      db.close();
      expect((await closedNext).done).toBe(true);
    });

    test("does not attach with a signal that has aborted", async () => {
      using db = database({ file });
      const source = db.listen("c", { signal: AbortSignal.abort() });
      expect((await source.next()).done).toBe(true);
      db.listen("c", () => {}, { signal: AbortSignal.abort() });
      expect(db.stats().wake.mode).toBe("idle");
    });

    test("detaches a callback when its subscription is disposed, once and for all", async () => {
      using db = database({ file });
      const heard: unknown[] = [];
      const subscription = db.listen("c", ({ payload }) => void heard.push(payload));
      const other = record(db, "c");
      subscription[Symbol.dispose]();
      subscription[Symbol.dispose]();
      db.notify("c", 1);
      await eventually(() => other.length === 1, "the other one hears");
      expect(heard).toEqual([]);
    });

    test("goes on when a callback throws, and reports it", async () => {
      using db = database({ file });
      const errors: unknown[] = [];
      db.on("error", ({ error }) => void errors.push(error));
      db.listen("c", () => {
        throw new Error("mine");
      });
      const heard = record(db, "c");
      db.notify("c", 1);
      db.notify("c", 2);
      await eventually(() => heard.length === 2, "the other listener hears both");
      expect(errors.map(String)).toEqual(["Error: mine", "Error: mine"]);
    });

    test("reports a notification that is not JSON, and goes on", async () => {
      using db = database({ file });
      const errors: unknown[] = [];
      db.on("error", ({ error }) => void errors.push(error));
      const source = db.listen<number>("c");
      db.sqlite.run("INSERT INTO _honker_notifications (channel, payload) VALUES ('c', 'oops')");
      db.notify("c", 1);
      expect(await take(source, 1)).toEqual([1]);
      expect(errors).toHaveLength(1);
      expect(errors[0]).toBeInstanceOf(PayloadError);
    });

    test("delivers a transaction of many thousand without leaving one out", async () => {
      using db = database({ file });
      const heard = record(db, "c");
      const source = db.listen<number>("c");
      const all = Array.from({ length: 3_500 }, (_, n) => n);
      db.transaction(() => {
        for (const n of all) {
          db.notify("c", n);
          db.notify("other", n);
        }
      });
      await eventually(() => heard.length === all.length, "all are heard");
      expect(heard).toEqual(all);
      expect(await take(source, all.length)).toEqual(all);
    });

    test("keeps payloads and names of any characters", async () => {
      using db = database({ file });
      const name = `a"'b%_;--\u0000 ☃ 𝄞`;
      const payloads = [null, true, 0, "", "\u0000\ud800 ☃", [{ deep: [1.5, "x"] }]];
      const source = db.listen<unknown>(name);
      for (const payload of payloads) db.notify(name, payload);
      db.notify(name);
      expect(await take(source, 7)).toEqual([...payloads, null]);
    });
  });
}

describe("notify and listen refuse", () => {
  const db = database();
  afterAll(() => db.close());
  const bad: [string, () => unknown, string][] = [
    ["an empty channel", () => db.notify(""), "notify: channel must be a non-empty string"],
    ["half a surrogate pair", () => db.notify("\ud800"), "well-formed Unicode"],
    ["no channels", () => db.listen([]), "listen: channels must be"],
    [
      "a number as channel",
      () => db.listen([1 as never]),
      "listen: channel must be a non-empty string, got 1",
    ],
    ["an unknown option", () => db.listen("c", { singal: 1 } as never), "listen: unknown option singal"],
    [
      "a wrong signal",
      () => db.listen("c", { signal: {} as never }),
      "listen: signal: must be an AbortSignal",
    ],
    ["a BigInt", () => db.notify("c", 1n), "notify: the payload cannot be stored as JSON"],
    [
      "an unknown option of notify",
      () => db.notify("c", 1, { txx: 1 } as never),
      "notify: unknown option txx",
    ],
    ["a function", () => db.notify("c", () => {}), "notify: the payload cannot be stored as JSON: function"],
  ];
  for (const [what, call, message] of bad) test(what, () => expect(call).toThrow(message));
});

describe("a listener that is slower than the pruning", () => {
  /** Sends so many, and has all but the newest `keep` pruned before anybody looks. */
  async function overrun(db: TestHonkbun, send: () => void, left: number): Promise<void> {
    send();
    db.clock.advance("11s"); // beyond the grace that listeners who keep up are given
    db.notify("other");
    db.clock.advance("2m");
    db.notify("other");
    const remaining = () =>
      db.sqlite
        .query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_notifications WHERE channel = 'c'")
        .get()?.n;
    await eventually(() => remaining() === left, `${left} are left`);
  }

  const small = () => database({ file: true, notifications: { maxCount: 12 } });

  test("gets LaggedError with the exact number missed, after what it still had", async () => {
    using db = small();
    const source = db.listen<number>("c");
    await overrun(
      db,
      () => {
        db.transaction(() => {
          for (let n = 0; n < 1_500; n++) db.notify("c", n);
        });
      },
      10,
    );
    // 1,000 fitted the iterator's buffer; of the 500 beyond, 10 are left.
    expect(await take(source, 1_000)).toEqual(Array.from({ length: 1_000 }, (_, n) => n));
    const error = await source.next().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LaggedError);
    expect((error as LaggedError).missed).toBe(490);
    expect((await source.next()).done).toBe(true);
  });

  test("goes on with what is left when it has onLagged", async () => {
    using db = small();
    const missed: number[] = [];
    const source = db.listen<number>("c", { onLagged: (count) => void missed.push(count) });
    await overrun(
      db,
      () => {
        db.transaction(() => {
          for (let n = 0; n < 1_500; n++) db.notify("c", n);
        });
      },
      10,
    );
    await take(source, 1_000);
    expect(await take(source, 10)).toEqual([1490, 1491, 1492, 1493, 1494, 1495, 1496, 1497, 1498, 1499]);
    expect(missed).toEqual([490]);
  });

  test("is told even when the whole process was asleep, and all is gone", async () => {
    using db = database({ file: true });
    const missed: number[] = [];
    const heard: unknown[] = [];
    db.listen("c", ({ payload }) => void heard.push(payload), {
      onLagged: (count) => void missed.push(count),
    });
    const lagging = db
      .listen("c")
      .next()
      .catch((error: unknown) => error);
    db.transaction((tx) => {
      for (let n = 0; n < 5; n++) db.notify("c", n);
      tx.run("DELETE FROM _honker_notifications");
    });
    await eventually(() => missed.length > 0, "the lag is reported");
    expect(missed).toEqual([5]);
    expect(await lagging).toBeInstanceOf(LaggedError);
    db.notify("c", "next");
    await eventually(() => heard.length > 0, "it goes on");
    expect(heard).toEqual(["next"]);
  });

  test("by callback without onLagged is reported as an error event", async () => {
    using db = database();
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const heard = record(db, "c");
    db.transaction((tx) => {
      for (let n = 0; n < 3; n++) db.notify("c", n);
      tx.run("DELETE FROM _honker_notifications WHERE id < 3");
    });
    await eventually(() => heard.length > 0, "what is left is heard");
    expect(heard).toEqual([2]);
    expect(errors).toMatchObject([{ code: "HONKBUN_LAGGED", missed: 2 }]);
  });
});

test("listeners hear on after somebody has emptied the table and its count of ids", async () => {
  using db = database({ file: true });
  for (let n = 0; n < 5; n++) db.notify("c", n);
  const heard = record(db, "c");
  db.transaction((tx) => {
    tx.run("DELETE FROM _honker_notifications");
    tx.run("DELETE FROM sqlite_sequence WHERE name = '_honker_notifications'");
  });
  db.clock.advance(1);
  db.notify("c", "next");
  await eventually(() => heard.length > 0, "it is heard");
  expect(heard).toEqual(["next"]);
});

describe("pruning", () => {
  const left = (db: Honkbun): number =>
    db.sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_notifications").get()?.n ?? -1;

  test("deletes what is older than maxAge, by whoever sends next", async () => {
    using db = database();
    for (let n = 0; n < 2_500; n++) db.notify("c", n);
    db.clock.advance("59m");
    db.notify("c");
    await eventually(() => left(db) === 2_501, "all are kept for an hour");
    db.clock.advance("2m");
    db.notify("c");
    await eventually(() => left(db) === 2, "the old ones go");
  });

  test("spares what listeners that keep up have not yet seen, however much it is", async () => {
    using db = database({ notifications: { maxCount: 10 } });
    const heard = record(db, "c");
    db.transaction(() => {
      for (let n = 0; n < 5_000; n++) db.notify("c", n);
    });
    await eventually(() => heard.length === 5_000, "all are heard");
    expect(left(db)).toBe(5_000);
    db.clock.advance("2m");
    db.notify("c", 0);
    await eventually(() => left(db) === 10, "the surplus goes");
  });
});
