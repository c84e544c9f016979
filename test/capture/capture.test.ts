import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Change, type Honkbun, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

/** What was captured into the stream "changes". */
function changes(db: Honkbun): Change[] {
  return db
    .stream<Change>("changes")
    .read({ limit: 1_000 })
    .map(({ payload }) => payload);
}

const into = { stream: "changes" } as const;

describe("capture.add", () => {
  test("makes every write to the table an event, with its key and its old and new values", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)");
    db.capture.add("users", { into });
    sqlite.run("INSERT INTO users (name, age) VALUES ('alice', 30), ('bob', NULL)");
    sqlite.run("UPDATE users SET age = age + 1 WHERE name = 'alice'");
    sqlite.run("UPDATE users SET id = 7 WHERE id = 2");
    sqlite.run("DELETE FROM users WHERE id = 1");
    const change = (operation: Change["operation"], key: number, old: object | null, now: object | null) => ({
      operation,
      table: "users",
      key: { id: key },
      old,
      new: now,
    });
    const alice = { id: 1, name: "alice", age: 30 };
    const bob = { id: 2, name: "bob", age: null };
    expect(changes(db)).toEqual([
      change("insert", 1, null, alice),
      change("insert", 2, null, bob),
      change("update", 1, alice, { ...alice, age: 31 }),
      change("update", 7, bob, { ...bob, id: 7 }),
      change("delete", 1, { ...alice, age: 31 }, null),
    ] as Change[]);
    expect(
      db
        .stream("changes")
        .read()
        .map(({ key }) => key),
    ).toEqual(["1", "2", "1", "7", "1"]);
  });

  test("keeps values as they are: numbers, texts that look like others, blobs as base64, nulls", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    db.capture.add("t", { into });
    const values = ["5", "null", '{"a":1}', 'say "hi"', "it's", "", 5, -1.5, 1e300, null, "ü€😀", "x\ny"];
    for (const value of values) sqlite.run("INSERT INTO t (v) VALUES (?)", [value]);
    expect(changes(db).map((change) => change.new?.v)).toEqual(values);
  });

  test("tells blobs of every length as base64", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
    db.capture.add("t", { into });
    const blobs = [0, 1, 2, 3, 4, 5, 6, 100, 1_000, 200_001].map((size) =>
      Uint8Array.from({ length: size }, (_, n) => (n * 7 + size) % 256),
    );
    for (const blob of blobs) sqlite.run("INSERT INTO t (v) VALUES (?)", [blob]);
    expect(changes(db).map((change) => change.new?.v)).toEqual(
      blobs.map((blob) => Buffer.from(blob).toString("base64")),
    );
  });

  test("knows composite keys, tables without row ids and without keys, generated columns, and quoted names", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run(
      `CREATE TABLE "odd ""table"" 'x'" ("a b" TEXT, "c""d" BLOB, "it's" INTEGER, PRIMARY KEY ("c""d", "a b")) WITHOUT ROWID`,
    );
    sqlite.run("CREATE TABLE plain (v, twice GENERATED ALWAYS AS (v * 2) VIRTUAL)");
    sqlite.run("CREATE TABLE hidden (rowid TEXT, v)");
    sqlite.run('CREATE TABLE beginners (id INTEGER PRIMARY KEY, "select" TEXT)');
    db.capture.add(`odd "table" 'x'`, { into });
    for (const table of ["plain", "hidden", "BEGINNERS"]) db.capture.add(table, { into });
    sqlite.run(`INSERT INTO "odd ""table"" 'x'" VALUES ('k', x'00ff', 3)`);
    sqlite.run("INSERT INTO plain (v) VALUES (4)");
    sqlite.run("INSERT INTO hidden VALUES ('r', 1)");
    sqlite.run("INSERT INTO beginners VALUES (1, 'x')");
    expect(changes(db)).toMatchObject([
      {
        table: `odd "table" 'x'`,
        key: { 'c"d': "AP8=", "a b": "k" },
        new: { "a b": "k", 'c"d': "AP8=", "it's": 3 },
      },
      { table: "plain", key: { rowid: 1 }, new: { v: 4, twice: 8 } },
      { table: "hidden", key: { _rowid_: 1 }, new: { rowid: "r", v: 1 } },
      { table: "beginners", key: { id: 1 }, new: { id: 1, select: "x" } },
    ]);
    expect(db.stream("changes").read()[0]?.key).toBe('["AP8=","k"]');
    expect(db.capture.list().map(({ table }) => table)).toEqual(
      [`odd "table" 'x'`, "plain", "hidden", "beginners"].toSorted(),
    );
  });

  test("captures what it is told to: operations, columns, a condition", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total INTEGER, note TEXT)");
    db.capture.add("orders", { on: ["update"], columns: ["status", "total"], when: "new.total > 100", into });
    sqlite.run("INSERT INTO orders VALUES (1, 'new', 500, 'x'), (2, 'new', 5, 'x')");
    sqlite.run("UPDATE orders SET note = 'y'");
    sqlite.run("UPDATE orders SET status = status");
    sqlite.run("UPDATE orders SET status = 'paid'");
    sqlite.run("DELETE FROM orders");
    expect(changes(db)).toEqual([
      {
        operation: "update",
        table: "orders",
        key: { id: 1 },
        old: { status: "new", total: 500 },
        new: { status: "paid", total: 500 },
      },
    ]);
  });

  test("puts changes into a stream, a channel or a queue", async () => {
    using db = database({ file: true });
    const { sqlite } = db;
    for (const table of ["a", "b", "c"]) sqlite.run(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY)`);
    db.capture.add("a", { into: { stream: "it's a stream" } });
    db.capture.add("b", { into: { channel: "b" } });
    db.capture.add("c", { into: { queue: "c" } });
    const heard = db.listen<Change>("b").next();
    const seen = db.stream<Change>("it's a stream").subscribe().next();
    const claimed = db.queue<Change>("c").claim().next();
    for (const table of ["a", "b", "c"]) sqlite.run(`INSERT INTO ${table} VALUES (1)`);
    for (const [source, table] of [
      [seen, "a"],
      [heard, "b"],
      [claimed, "c"],
    ] as const) {
      expect((await within<IteratorResult<{ payload: Change }>>(source, table)).value.payload).toMatchObject({
        table,
      });
    }
    expect(db.capture.list()).toEqual([
      { table: "a", on: ["insert", "update", "delete"], into: "stream it's a stream" },
      { table: "b", on: ["insert", "update", "delete"], into: "channel b" },
      { table: "c", on: ["insert", "update", "delete"], into: "queue c" },
    ]);
  });

  test("captures in the transaction of the write, whoever writes, and wakes who follows", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    db.sqlite.run("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)");
    db.capture.add("users", { into });
    const next = db.stream<Change>("changes").subscribe().next();
    using other = new Database(folder.file());
    other.run("BEGIN");
    other.run("INSERT INTO users (name) VALUES ('nobody')");
    other.run("ROLLBACK");
    other.run("INSERT INTO users (name) VALUES ('alice')");
    expect((await within(next, "it is told")).value.payload.new).toEqual({ id: 1, name: "alice" });
    expect(db.stream("changes").length()).toBe(1);
    if (Bun.which("sqlite3") !== null) {
      const shell = Bun.spawnSync(["sqlite3", folder.file(), "UPDATE users SET name = x'010203'"]);
      expect(shell.stderr.toString()).toBe("");
      expect(changes(db).at(-1)?.new).toEqual({ id: 1, name: "AQID" });
    }
  });

  test("changes nothing when it says the same again, and replaces what was there when it does not", () => {
    using db = database({ file: true });
    using other = open(db.sqlite.filename);
    db.sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    const add = (): void =>
      db.capture.add("t", { on: ["update", "insert"], when: "new.v > 1 /* or so */", into });
    add();
    const version = (): unknown => other.sqlite.query("PRAGMA data_version").get();
    const before = version();
    add();
    db.capture.add("T", { on: ["insert", "update"], when: " new.v > 1 /* or so */", into });
    expect(version()).toEqual(before);
    db.capture.add("t", { into: { queue: "q" } });
    db.sqlite.run("INSERT INTO t (v) VALUES (5)");
    expect(changes(db)).toEqual([]);
    expect(db.queue("q").counts().ready).toBe(1);
    db.capture.remove("t");
    db.capture.remove("t");
    db.sqlite.run("INSERT INTO t (v) VALUES (5)");
    expect(db.queue("q").counts().ready).toBe(1);
    expect(db.capture.list()).toEqual([]);
  });

  test("survives columns that are added, and tells them once it is called again", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    db.capture.add("t", { into });
    sqlite.run("ALTER TABLE t ADD COLUMN extra TEXT");
    sqlite.run("INSERT INTO t (v, extra) VALUES (1, 'x')");
    db.capture.add("t", { into });
    sqlite.run("INSERT INTO t (v, extra) VALUES (2, 'y')");
    sqlite.run("ALTER TABLE t RENAME COLUMN v TO w");
    sqlite.run("INSERT INTO t (w) VALUES (3)");
    expect(changes(db).map((change) => change.new)).toEqual([
      { id: 1, v: 1 },
      { id: 2, v: 2, extra: "y" },
      { id: 3, v: 3, extra: null },
    ]);
    sqlite.run("ALTER TABLE t RENAME TO renamed");
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    db.capture.add("t", { into });
    expect(db.capture.list().map(({ table }) => table)).toEqual(["renamed", "t"]);
    sqlite.run("DROP TABLE renamed");
    expect(db.capture.list().map(({ table }) => table)).toEqual(["t"]);
  });

  test("joins db.transaction", () => {
    using db = database();
    expect(() =>
      db.transaction((tx) => {
        tx.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
        db.capture.add("t", { into });
        expect(db.capture.list()).toHaveLength(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(db.capture.list()).toEqual([]);
  });

  test("refuses what it cannot capture, and leaves the table as it was", () => {
    using db = database();
    const { sqlite } = db;
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    sqlite.run("CREATE VIEW v AS SELECT * FROM t");
    sqlite.run("CREATE VIRTUAL TABLE words USING fts5(word)");
    sqlite.run("CREATE TEMP TABLE passing (id)");
    db.capture.add("t", { into });
    const add =
      (table: string, options: object = {}) =>
      () =>
        db.capture.add(table, { into, ...options } as never);
    expect(add("nothing")).toThrow(
      new TypeError('capture.add: nothing: there is no table "nothing" in the file'),
    );
    expect(add("passing")).toThrow("there is no table");
    expect(add("v")).toThrow('"v" is a view; changes are captured of ordinary tables');
    expect(add("words")).toThrow('"words" is a virtual table');
    expect(add("words_data")).toThrow('"words_data" is a shadow table');
    for (const table of ["_honker_live", "_HONKBUN_queues", "sqlite_schema", "sqlite_sequence"]) {
      expect(add(table)).toThrow(TypeError);
    }
    expect(add("t", { columns: ["v", "w"] })).toThrow('columns: the table has no column "w"; it has id, v');
    expect(add("t", { when: "new.v >" })).toThrow("capture.add: t: when: ");
    expect(add("t", { when: "new.w > 1" })).toThrow("no such column: new.w");
    expect(add("t", { when: "old.v <> new.v" })).toThrow(
      '"old.v <> new.v" cannot be asked of insert: no such column: old.v',
    );
    expect(add("t", { when: " " })).toThrow("when must be a condition in SQL");
    expect(add("t", { on: [] })).toThrow("capture.add: t: on");
    expect(add("t", { on: ["drop"] })).toThrow("capture.add: t: on");
    expect(add("t", { into: {} })).toThrow(
      "capture.add: t: into: must be { stream }, { channel } or { queue }",
    );
    expect(add("t", { into: { stream: "" } })).toThrow("into.stream must be a non-empty string");
    expect(add("t", { often: 1 })).toThrow("capture.add: t: unknown option often");
    expect(add("")).toThrow("capture.add: table must be a non-empty string");
    sqlite.run("INSERT INTO t (v) VALUES (1)");
    expect(changes(db)).toHaveLength(1); // the first definition holds
  });
});
