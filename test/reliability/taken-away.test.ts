import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { renameSync, rmSync, truncateSync, unlinkSync } from "node:fs";

import { open } from "../../src/index.ts";
import { Everything, WRITES } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";
import { hasProc, hasShell } from "../support/machine.ts";
import { Process } from "../support/process.ts";
import { assertIntegrity } from "../support/workload.ts";

const REPLACED = "HONKBUN_FILE_REPLACED";

const WAYS: Readonly<Record<string, (folder: Folder) => void>> = {
  "the file is removed": (folder) => unlinkSync(folder.file()),
  "the folder is renamed": (folder) => renameSync(folder.path, `${folder.path}-renamed`),
  "the folder is removed": (folder) => rmSync(folder.path, { recursive: true }),
  "the index of the log is removed": (folder) => unlinkSync(`${folder.file()}-shm`),
  "the file is emptied": (folder) => truncateSync(folder.file()),
};

describe("a process with a loop of each module", () => {
  for (const [way, take] of Object.entries(WAYS)) {
    test(`ends them all when ${way}, refuses what is sent, and tells it once`, async () => {
      using folder = new Folder();
      using _ = {
        [Symbol.dispose]: () => rmSync(`${folder.path}-renamed`, { recursive: true, force: true }),
      };
      await using everything = await Everything.start(folder.file());
      expect(await everything.failures()).toEqual({});
      await everything.finished();
      await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
      take(folder);
      await Bun.sleep(2); // so long it is trusted to be there
      const failures = Object.fromEntries(WRITES.map((name) => [name, REPLACED]));
      expect(await everything.failures()).toEqual(failures);
      expect((await everything.call("counts")).code).toBe(REPLACED); // what there was nobody else sees any more
      const all = {
        consumer: REPLACED,
        lock: REPLACED,
        scheduler: REPLACED,
        threads: REPLACED,
        worker: REPLACED,
      };
      const { errors } = await everything.until(
        ({ ended }) => Object.keys(ended).length === Object.keys(all).length,
        "all have ended",
      );
      expect(errors[`wake: ${REPLACED}`]).toBe(1);
      expect((await everything.report()).ended).toEqual(all);
      await Bun.sleep(2_000); // longer than anything is tried again
      expect((await everything.report()).errors).toEqual({});
      expect((await everything.call("shutdown")).code).toBeUndefined();
    }, 60_000);
  }
});

test.each(Object.entries(WAYS))("who only sends or looks is refused, too, when %s", async (_, take) => {
  using folder = new Folder();
  using __ = {
    [Symbol.dispose]: () => rmSync(`${folder.path}-renamed`, { recursive: true, force: true }),
  };
  using db = open(folder.file());
  const queue = db.queue("q");
  const stream = db.stream("s");
  await queue.enqueueAsync(1);
  take(folder);
  await Bun.sleep(2);
  const calls: (() => unknown)[] = [
    () => queue.enqueueAsync(2),
    () => stream.publishAsync(2),
    () => queue.enqueue(2),
    () => queue.counts(),
    () => stream.read(),
  ];
  for (const call of calls) {
    const error: unknown = await Promise.try(call).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: REPLACED });
  }
});

test.skipIf(!(hasProc && hasShell)).each(["close", "exit"])(
  "who leaves a file of which the log's index was removed harms nobody: %s",
  async (how) => {
    using folder = new Folder();
    await using leaver = new Process("leaver", folder.file());
    await leaver.read();
    unlinkSync(`${folder.file()}-shm`);
    await Bun.sleep(2);
    expect(await leaver.ask("enqueue")).toBe(REPLACED);
    // Another program writes, and ends.
    const shell = Bun.spawnSync(["sqlite3", folder.file()], {
      stdin: Buffer.from(`PRAGMA wal_checkpoint(TRUNCATE);
      CREATE TABLE orders (text TEXT);
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO orders SELECT hex(randomblob(200)) FROM n;`),
    });
    expect(shell.stderr.toString()).toBe("");
    leaver.write(how);
    if (how === "close") expect(await leaver.read()).toBe(null);
    else await leaver.exited;
    assertIntegrity(folder.file());
    using db = open(folder.file());
    expect(db.queue("q").counts().ready).toBe(200);
    expect(db.sqlite.query("SELECT count(*) AS n FROM orders").get()).toEqual({ n: 500 });
  },
);

test.skipIf(!hasProc)(
  "who writes when the log's index is removed keeps its lock until it has committed",
  async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using handle = new Database(folder.file());
    handle.run("CREATE TABLE rows (who TEXT, text TEXT)");
    await using other = new Process("sql-runner", folder.file());
    await other.read();
    const insert = (who: string): string =>
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO rows SELECT '${who}', hex(randomblob(200)) FROM n`;
    handle.run("PRAGMA cache_size = 10"); // so that it writes to the log before it commits
    handle.run("BEGIN IMMEDIATE");
    handle.run(insert("one"));
    unlinkSync(`${folder.file()}-shm`);
    await Bun.sleep(2);
    expect(() => db.queue("q").get(1)).toThrow(expect.objectContaining({ code: REPLACED }));
    const begun = other.ask("BEGIN IMMEDIATE"); // SQLite tries for ten seconds, whatever its timeout
    expect(await Promise.race([begun, Bun.sleep(500).then(() => "waits")])).not.toBe("done");
    handle.run(insert("one"));
    handle.run("COMMIT");
    const isBegun = (await begun) === "done";
    expect(await other.ask(insert("other"))).toBe("done");
    if (isBegun) expect(await other.ask("COMMIT")).toBe("done");
    handle.close();
    db.close();
    assertIntegrity(folder.file());
    using reader = new Database(folder.file());
    expect(reader.query("SELECT who, count(*) AS n FROM rows GROUP BY who").all()).toEqual([
      { who: "one", n: 400 },
      { who: "other", n: 200 },
    ]);
  },
  60_000,
);

test("not one job is stored beside another process that has the log's index anew", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  const queue = db.queue<{ n: number }>("q");
  queue.enqueue({ n: 0 });
  const stored = [0];
  unlinkSync(`${folder.file()}-shm`);
  await using other = await Everything.start(folder.file());
  for (let n = 1; n < 20; n++) {
    await other.call("publish");
    try {
      queue.enqueue({ n: -n });
      stored.push(-n);
    } catch (error) {
      expect(error).toMatchObject({ code: REPLACED });
    }
  }
  // Each of the two would write over what the other has written.
  await other.until(({ ran }) => stored.every((n) => ran.includes(n)), "all that was stored is run");
  await other.finished();
  expect(await other.call("check")).toMatchObject({ value: [] });
}, 60_000);
