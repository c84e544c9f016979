import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";

import { BusyError, open } from "../../src/index.ts";
import { SCHEMA_VERSION } from "../../src/sqlite/migrations.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { Folder } from "../support/folder.ts";
import { makeHonkerFile } from "../support/honker-file.ts";
import { Process } from "../support/process.ts";

describe("open", () => {
  test("creates a file that is not there", () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.queue("emails").enqueue({ to: "a@example.com" });
    using other = new Database(folder.file(), { readonly: true });
    expect(other.query("SELECT queue, payload FROM _honker_live").all()).toEqual([
      { queue: "emails", payload: '{"to":"a@example.com"}' },
    ]);
  });

  test.each(["wal", "delete"])(
    "keeps the tables and rows of a file in %s mode, and puts it into WAL mode",
    (mode) => {
      using folder = new Folder();
      makeApplicationFile(folder.file(), mode);
      open(folder.file()).close();
      using other = new Database(folder.file());
      expect(journalMode(other)).toBe("wal");
      expect(other.query("SELECT * FROM orders").all()).toEqual(ORDERS);
    },
  );

  test.each([
    ["normal", 1],
    ["full", 2],
  ] as const)("syncs as synchronous: %p says, whatever mode the file was in", (synchronous, level) => {
    using folder = new Folder();
    makeApplicationFile(folder.file(), "delete");
    using db = open(folder.file(), { synchronous });
    expect(db.sqlite.query("PRAGMA synchronous").get()).toEqual({ synchronous: level });
  });

  test("makes a database of its own of each :memory:", () => {
    using one = open(":memory:");
    using other = open(":memory:");
    one.queue("q").enqueue(1);
    expect(other.queue("q").claimBatch(1)).toEqual([]);
    const [job] = one.queue("q").claimBatch(1);
    job?.ack();
    expect(job?.payload).toBe(1);
    expect(existsSync(":memory:")).toBe(false);
  });

  test("writes nothing to a file of the current version", () => {
    using folder = new Folder();
    open(folder.file()).close();
    using watcher = new Database(folder.file());
    const before = dataVersion(watcher);
    open(folder.file()).close();
    expect(dataVersion(watcher)).toBe(before);
  });

  test("waits for a file that another connection keeps out of WAL mode, at most busyTimeout", () => {
    using folder = new Folder();
    makeApplicationFile(folder.file(), "delete");
    using reader = new Database(folder.file());
    reader.run("BEGIN");
    reader.query("SELECT * FROM orders").all();
    expect(() => open(folder.file(), { busyTimeout: "20ms" })).toThrow(BusyError);
    reader.run("COMMIT");
    open(folder.file(), { busyTimeout: "20ms" }).close();
  });

  test("refuses calls that read after close, though the log is gone with it", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const [queue, stream] = [db.queue("q"), db.stream("s")];
    queue.enqueue(1);
    queue.counts();
    db.close();
    await Bun.sleep(2);
    for (const read of [
      () => queue.get(1),
      () => queue.list(),
      () => queue.counts(),
      () => queue.latency(),
      () => stream.read(),
      () => db.scheduler.list(),
    ]) {
      expect(read).toThrow(expect.objectContaining({ code: "HONKBUN_CLOSED" }));
    }
  });

  test.skipIf(process.platform !== "linux")("leaves no descriptor open after close", () => {
    using folder = new Folder();
    for (let time = 0; time < 20; time++) {
      const db = open(folder.file());
      db.queue("q").enqueue(time);
      db.queue("q").claimBatch(1)[0]?.ack();
      db.close();
    }
    expect(openDescriptors(folder.path)).toEqual([]);
  });

  test.each([
    ["one new file", false, () => {}],
    ["one new file through handles of their own", true, () => {}],
    ["one file that honker made", false, makeHonkerFile],
  ])(
    "lets eight processes open %s at the same moment",
    async (_, throughHandle, prepare) => {
      using folder = new Folder();
      await using stack = new AsyncDisposableStack();
      const processes = Array.from({ length: 8 }, () => stack.use(new Process("opener")));
      await Promise.all(processes.map((process) => process.read()));
      prepare(folder.file("alone.db"));
      open(folder.file("alone.db")).close();
      const alone = contentOf(folder.file("alone.db"));
      expect(alone).toMatchObject({ integrity: "ok", mode: "wal", version: SCHEMA_VERSION });
      for (let round = 0; round < 50; round++) {
        const path = folder.file(`${round}.db`);
        prepare(path);
        const errors = await Promise.all(processes.map((process) => process.ask({ path, throughHandle })));
        expect(errors).toEqual(Array(8).fill(null));
        expect(contentOf(path)).toEqual(alone);
      }
    },
    60_000,
  );
});

const ORDERS = [
  { id: 1, item: "tea" },
  { id: 2, item: "cake" },
];

function makeApplicationFile(path: string, mode: string): void {
  using db = new Database(path);
  db.run(`PRAGMA journal_mode = ${mode}`);
  db.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)");
  for (const { id, item } of ORDERS) db.run("INSERT INTO orders VALUES (?, ?)", [id, item]);
}

function journalMode(db: Database): unknown {
  return db.query<{ journal_mode: string }, []>("PRAGMA journal_mode").get()?.journal_mode;
}

function dataVersion(db: Database): unknown {
  return db.query("PRAGMA data_version").values()[0]?.[0];
}

function contentOf(path: string): Record<string, unknown> {
  using db = new Database(path);
  return {
    integrity: db.query("PRAGMA integrity_check").values().join(),
    mode: journalMode(db),
    version: db.query("SELECT max(version) FROM _honkbun_migrations").values()[0]?.[0],
    migrations: db.query("SELECT version FROM _honkbun_migrations").all(),
    jobs: db.query("SELECT * FROM _honker_live").all(),
    schema: db.query("SELECT type, name, sql FROM sqlite_schema ORDER BY name").all(),
  };
}
