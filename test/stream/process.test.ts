import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, open } from "../../src/index.ts";
import { Commits } from "../support/commits.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const sum = (db: Honkbun): number =>
  db.sqlite.query<{ v: number }, []>("SELECT coalesce(sum(v), 0) AS v FROM effects").get()?.v ?? -1;
const offset = (db: Honkbun, name = "p"): number | undefined =>
  db.sqlite
    .query<{ offset: number }, [string]>("SELECT offset FROM _honker_stream_consumers WHERE name = ?")
    .get(name)?.offset;
const prepare = (db: Honkbun): void => void db.sqlite.run("CREATE TABLE effects (v INTEGER)");

for (const file of [false, true]) {
  describe(`process, ${file ? "on a file" : "in memory"}`, () => {
    test("commits effects and offset together, many events to a transaction", async () => {
      using commits = new Commits();
      using db = database({ file });
      prepare(db);
      const stream = db.stream<number>("t");
      stream.publishMany(numbers(500));
      const before = commits.count;
      const running = stream.process(
        "p",
        ({ payload }, tx) => void tx.run("INSERT INTO effects VALUES (?)", [payload]),
      );
      await eventually(() => offset(db) === 500, "all are handled");
      expect(sum(db)).toBe((499 * 500) / 2);
      expect(commits.count - before).toBeLessThan(50);
      stream.publish(1_000);
      await eventually(() => offset(db) === 501, "what comes is handled");
      await within(running.stop(), "it stops");
      await running.stopped;
      stream.publish(1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(offset(db)).toBe(501);
      expect(db.stats().wake.mode).toBe("idle");
    });

    test("joins what is done by the handle: publish, enqueue and read are in the same transaction", async () => {
      using db = database({ file });
      prepare(db);
      const stream = db.stream<number>("t");
      const [out, queue] = [db.stream<number>("out"), db.queue<number>("q")];
      stream.publishMany([1, 2, 3]);
      let fails = true;
      const running = stream.process("p", ({ payload }) => {
        out.publish(payload * 10);
        queue.enqueue(payload);
        expect(out.last()?.payload).toBe(payload * 10);
        if (payload === 3 && fails) throw new Error("not yet");
      });
      await running.stopped.catch(() => {});
      expect(out.read().map(({ payload }) => payload)).toEqual([10, 20]);
      expect(queue.counts().ready).toBe(2);
      fails = false;
      const again = stream.process("p", ({ payload }) => void out.publish(payload * 10));
      await eventually(() => offset(db) === db.stream("t").last()?.offset, "the third is handled");
      expect(out.read().map(({ payload }) => payload)).toEqual([10, 20, 30]);
      await again.stop();
    });

    test("rebuilds: the projection and the offset go back together, while it runs", async () => {
      using db = database({ file });
      prepare(db);
      const stream = db.stream<number>("t");
      stream.publishMany(numbers(100));
      let factor = 1;
      const running = stream.process(
        "p",
        ({ payload }, tx) => void tx.run("INSERT INTO effects VALUES (?)", [payload * factor]),
      );
      await eventually(() => sum(db) === 4_950, "all are handled");
      factor = 2;
      db.transaction((tx) => {
        tx.run("DELETE FROM effects");
        stream.seek("p", "start");
      });
      await eventually(() => sum(db) === 9_900, "it is built anew");
      await running.stop();
    });
  });
}

describe("an event whose handler throws", () => {
  test("stops the consumer in front of it, after what came before; stopped rejects with the error", async () => {
    using db = database({ file: true });
    prepare(db);
    const errors: unknown[] = [];
    db.on("error", ({ error, where }) => void errors.push([(error as Error).message, where]));
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(10));
    const running = stream.process("p", ({ payload }, tx) => {
      tx.run("INSERT INTO effects VALUES (?)", [payload]);
      if (payload === 5) throw new Error("bad event");
    });
    expect(running.stopped).rejects.toThrow("bad event");
    await running.stopped.catch(() => {});
    expect(offset(db)).toBe(5);
    expect(sum(db)).toBe(0 + 1 + 2 + 3 + 4);
    expect(errors).toEqual([["bad event", "process of t by p"]]);
  });

  for (const onError of ["skip", "dead"] as const) {
    test(`is passed over with onError "${onError}", and its writes are undone`, async () => {
      using db = database({ file: true });
      prepare(db);
      const errors: string[] = [];
      db.on("error", ({ error }) => void errors.push((error as Error).message));
      const stream = db.stream("t", { schema: z.number() });
      stream.publishMany(numbers(10), { key: (n) => `k${n}` });
      db.sqlite.run("UPDATE _honker_stream SET payload = '\"x\"' WHERE offset = 8");
      const running = stream.process(
        "p",
        ({ payload }, tx) => {
          tx.run("INSERT INTO effects VALUES (?)", [payload]);
          if (payload === 5) throw new Error("bad event");
        },
        { onError },
      );
      await eventually(() => offset(db) === 10, "all are passed");
      await running.stop();
      expect(sum(db)).toBe(45 - 5 - 7);
      const dead = stream.group("p").dead.list();
      if (onError === "skip") {
        expect(errors).toEqual(["bad event", expect.stringContaining("does not fit the schema")]);
        expect(dead).toEqual([]);
        return;
      }
      expect(dead).toMatchObject([
        { offset: 6, key: "k5", payload: 5 },
        { offset: 8, key: "k7", payload: "x" },
      ]);
      const { last_error } = db.sqlite.query("SELECT last_error FROM _honker_dead LIMIT 1").get() as {
        last_error: string;
      };
      expect(last_error).toBe("bad event");
    });
  }

  test("because it returns a promise is told so", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publish(1);
    const running = stream.process("p", (async () => {}) as never);
    expect(running.stopped).rejects.toThrow("the handler returned a promise");
    await running.stopped.catch(() => {});
  });
});

test("an event that cannot be kept as dead is tried again, and the consumer goes on once it can", async () => {
  using db = database({ file: true });
  const errors: string[] = [];
  db.on("error", ({ error }) => void errors.push((error as Error).message));
  const stream = db.stream<number>("t");
  stream.publishMany([1, 2]);
  db.sqlite.run("CREATE TRIGGER full BEFORE INSERT ON _honker_dead BEGIN SELECT raise(ABORT, 'full'); END");
  const running = stream.process(
    "p",
    ({ payload }) => {
      if (payload === 1) throw Object.create(null);
    },
    { onError: "dead" },
  );
  await eventually(() => errors.includes("full"), "it is reported");
  db.sqlite.run("DROP TRIGGER full");
  await eventually(() => offset(db) === 2, "it goes on");
  expect(stream.group("p").dead.list()).toMatchObject([{ payload: 1 }]);
  expect(() => stream.group("p").dead.retry("all")).toThrow("has never had a member");
  expect(stream.group("p").dead.purge("all")).toBe(1);
  await within(running.stop(), "it stops");
});

describe("process", () => {
  test("can be stopped by its own handler, before the next event", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    const seen: number[] = [];
    const running = stream.process("p", ({ payload }) => {
      seen.push(payload);
      if (payload === 1) void running.stop();
    });
    await within(running.stopped, "it stops");
    expect(seen).toEqual([0, 1]);
    expect(offset(db)).toBe(2);
  });

  test('begins at the end as of the call, with from: "end"', async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publish(0);
    const seen: number[] = [];
    const running = stream.process("p", ({ payload }) => void seen.push(payload), { from: "end" });
    stream.publish(1);
    await eventually(() => seen.length === 1, "it is handled");
    expect(seen).toEqual([1]);
    await running.stop({ timeout: "1h" }); // which keeps nothing alive
  });

  test("stops when the handle that it was given is closed", async () => {
    using folder = new Folder();
    open(folder.file()).close();
    const handle = new Database(folder.file());
    const db = open(handle);
    db.on("error", () => {});
    const running = db.stream<number>("t").process("p", () => {});
    await eventually(
      () => handle.query("SELECT * FROM _honker_stream_consumers").all().length === 1,
      "it runs",
    );
    handle.close();
    using other = open(folder.file());
    other.stream<number>("t").publish(1);
    expect(running.stopped).rejects.toMatchObject({ code: "HONKBUN_CLOSED" });
    await within(
      running.stopped.catch(() => {}),
      "it stops",
    );
    db.close();
  });

  test("begins where it is told when nothing is saved, and else where it was", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    const seen: number[] = [];
    const handler = ({ payload }: { readonly payload: number }): void => void seen.push(payload);
    const first = stream.process("p", handler, { from: "end" });
    await eventually(() => offset(db) === 5, "it is registered");
    stream.publish(5);
    await eventually(() => seen.length === 1, "it is handled");
    await first.stop();
    stream.publish(6);
    const second = stream.process("p", handler, { from: "start" });
    await eventually(() => seen.length === 2, "the next is handled");
    expect(seen).toEqual([5, 6]);
    await second.stop();
  });

  test("waits while the application has a transaction open, or somebody the lock", async () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename);
    prepare(db);
    const stream = db.stream<number>("t");
    const running = stream.process(
      "p",
      ({ payload }, tx) => void tx.run("INSERT INTO effects VALUES (?)", [payload]),
    );
    await eventually(() => offset(db) === 0, "it is registered");
    db.sqlite.run("BEGIN");
    other.stream<number>("t").publish(1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(other.sqlite.query("SELECT count(*) AS n FROM effects").get()).toEqual({ n: 0 });
    db.sqlite.run("ROLLBACK");
    await eventually(() => sum(db) === 1, "it is handled");
    other.sqlite.run("BEGIN IMMEDIATE");
    other.stream<number>("t").publish(2, { tx: other.sqlite });
    await new Promise((resolve) => setTimeout(resolve, 30));
    other.sqlite.run("COMMIT");
    await eventually(() => sum(db) === 3, "it is handled, too");
    await running.stop();
  });

  test("that begins with what is left is told of no gap when events are trimmed before it has begun", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany([0, 1, 2, 3]);
    db.on("error", () => {});
    const seen: number[] = [];
    const running = stream.process("c", ({ payload }) => void seen.push(payload));
    const after = stream.process("other", () => {}, { from: 0 });
    stream.trim({ maxCount: 2 }, { pastConsumers: true });
    await eventually(() => seen.length === 2, "what is left is handled");
    expect(seen).toEqual([2, 3]);
    await running.stop();
    expect(await after.stopped.catch((error: unknown) => error)).toMatchObject({
      code: "HONKBUN_OFFSET_TRIMMED",
    });
    // What came when it was there already it should have got.
    const missing = stream.process("missing", () => {});
    stream.publishMany([4, 5]);
    stream.trim({ maxCount: 1 }, { pastConsumers: true });
    expect(await missing.stopped.catch((error: unknown) => error)).toMatchObject({
      code: "HONKBUN_OFFSET_TRIMMED",
    });
  });

  test("that is behind what was trimmed stops with that", async () => {
    using db = database({ file: true });
    const stream = db.stream<number>("t");
    stream.publishMany(numbers(5));
    stream.seek("p", 1);
    stream.trim({ maxCount: 1 }, { pastConsumers: true });
    db.on("error", () => {});
    const running = stream.process("p", () => {});
    expect(running.stopped).rejects.toMatchObject({ code: "HONKBUN_OFFSET_TRIMMED", through: 4 });
    await running.stopped.catch(() => {});
  });

  test("stops by its signal, by shutdown and by close", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const stop = new AbortController();
    const one = db.stream("t").process("a", () => {}, { signal: stop.signal });
    stop.abort();
    await within(one.stopped, "by its signal");
    const two = db.stream("t").process("b", () => {});
    await within(db.shutdown(), "by shutdown");
    await two.stopped;
    const again = open(folder.file());
    const three = again.stream("t").process("c", () => {});
    again.close();
    await within(three.stopped, "by close");
  });

  test("refuses bad arguments", () => {
    using db = database();
    const stream = db.stream("t");
    expect(() => stream.process("", () => {})).toThrow("process: consumer");
    expect(() => stream.process("p", null as never)).toThrow("process: handler must be a function");
    expect(() => stream.process("p", () => {}, { onError: "ignore" as never })).toThrow("process: onError");
    expect(() => stream.process("p", () => {}, { from: "saved" as never })).toThrow("process: from");
  });

  test("by two processes handles each event once between them", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    prepare(db);
    await using one = new Process("stream-processor", folder.file());
    await using two = new Process("stream-processor", folder.file());
    await Promise.all([one.read(), two.read()]);
    for (let n = 0; n < 40; n++) {
      db.stream<number>("t").publishMany(numbers(50));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await eventually(() => offset(db) === 2_000, "all are handled");
    expect(db.sqlite.query("SELECT count(*) AS n FROM effects").get()).toEqual({ n: 2_000 });
    expect(sum(db)).toBe(40 * 1_225);
  }, 30_000);

  test("killed fifty times under load leaves the sum of its effects exactly right", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    prepare(db);
    const stream = db.stream<number>("t");
    let [expected, kills, isLoading] = [0, 0, true];
    const load = (async () => {
      for (let n = 0; isLoading; n++) {
        const batch = numbers(n % 20);
        stream.publishMany(batch);
        expected += batch.reduce((a, b) => a + b, 0);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    })();
    for (; kills < 50; kills++) {
      await using victim = new Process("stream-processor", folder.file());
      await victim.read();
      await new Promise((resolve) => setTimeout(resolve, (kills * 7) % 40));
      victim.kill("SIGKILL");
      await victim.exited;
    }
    isLoading = false;
    await load;
    await using last = new Process("stream-processor", folder.file());
    await eventually(() => offset(db) === stream.last()?.offset, "all are handled");
    expect(sum(db)).toBe(expected);
    expect(db.sqlite.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
    expect(last.pid).toBeGreaterThan(0);
  }, 60_000);
});
