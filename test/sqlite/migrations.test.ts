import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { FLOW_COLUMNS } from "../../src/sqlite/flow-schema.ts";
import { SCHEMA_VERSION } from "../../src/sqlite/migrations.ts";
import { HISTORY_COLUMNS, LIVE_COLUMNS } from "../../src/sqlite/schema.ts";
import { Folder } from "../support/folder.ts";
import { honkerRows, makeHonkerFile } from "../support/honker-file.ts";

describe("open", () => {
  test("keeps every row of a file that honker made", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file());
    const before = read(folder.file(), honkerRows);
    open(folder.file()).close();
    expect(Object.values(before).filter((rows) => rows.length === 0)).toEqual([]);
    expect(read(folder.file(), honkerRows)).toEqual(before);
  });

  test("leaves honker's tables and indexes as they were, but for columns at the end", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file());
    const before = read(folder.file(), schemaOf);
    open(folder.file()).close();
    const after = read(folder.file(), schemaOf);
    expect(after.indexes).toMatchObject(before.indexes);
    for (const [table, columns] of Object.entries(before.tables)) {
      expect(after.tables[table]?.slice(0, columns.length)).toEqual(columns);
    }
  });

  test("adds to honker's file what a new file has", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file("honker.db"));
    open(folder.file("honker.db")).close();
    open(folder.file("new.db")).close();
    const { tables, indexes } = read(folder.file("honker.db"), schemaOf);
    const { _honker_live_claim, _honker_live_pending_deadline, ...others } = indexes;
    expect([_honker_live_claim, _honker_live_pending_deadline]).not.toContain(undefined);
    expect({ tables, indexes: others }).toEqual(read(folder.file("new.db"), schemaOf));
  });

  test("adds columns that may be NULL to _honker_live, where they are missing", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file());
    const before = read(folder.file(), schemaOf).tables._honker_live;
    using db = new Database(folder.file());
    db.run("ALTER TABLE _honker_live ADD COLUMN due_ms INTEGER");
    open(folder.file()).close();
    const added = schemaOf(db).tables._honker_live?.slice(before?.length);
    const columns = [...LIVE_COLUMNS, ...HISTORY_COLUMNS, ...FLOW_COLUMNS];
    expect(added).toMatchObject(columns.map(({ name }) => ({ name, notnull: 0 })));
  });

  test("makes the index on claims under honker's name, so that no file has it twice", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file("honker.db"));
    const theirs = read(folder.file("honker.db"), schemaOf).indexes._honker_live_processing_deadline;
    for (const name of ["honker.db", "new.db"]) {
      open(folder.file(name)).close();
      const { _honker_live_processing_deadline, ...others } = read(folder.file(name), schemaOf).indexes;
      expect(_honker_live_processing_deadline).toBe(theirs);
      expect(
        Object.values(others).filter(
          (sql) => sql.includes("'processing'") && sql.includes("claim_expires_at"),
        ),
      ).toEqual([]);
    }
  });

  test("lets a job that honker enqueued be claimed and acked", () => {
    using folder = new Folder();
    makeHonkerFile(folder.file());
    using db = open(folder.file());
    const jobs = db.queue("emails").claimBatch(10);
    expect(jobs.map(({ id, payload }) => [id, payload])).toEqual([[1, { to: "ready@example.com" }]]);
    jobs[0]?.ack();
    expect(db.sqlite.query("SELECT id FROM _honker_live WHERE queue = 'emails'").values()).toEqual([[2]]);
  });

  test("leaves a plain INSERT of queue and payload a complete enqueue", () => {
    using db = open(":memory:");
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload) VALUES ('emails', '"plain"')`);
    expect(db.queue("emails").claimBatch(1)[0]?.payload).toBe("plain");
  });

  test("makes due the milliseconds of due_ms while run_at is their second, else run_at", () => {
    using db = open(":memory:");
    const due = (): unknown => db.sqlite.query("SELECT due FROM _honker_live").values()[0]?.[0];
    db.sqlite.run("INSERT INTO _honker_live (queue, payload, run_at, due_ms) VALUES ('q', '1', 10, 10500)");
    expect(due()).toBe(10_500);
    db.sqlite.run("UPDATE _honker_live SET run_at = 12");
    expect(due()).toBe(12_000);
    db.sqlite.run("UPDATE _honker_live SET due_ms = NULL");
    expect(due()).toBe(12_000);
  });

  test("records each version once, with the time of its migration", () => {
    using folder = new Folder();
    for (const now of [1_000, 2_000]) open(folder.file(), { clock: () => now }).close();
    const versions = Array.from({ length: SCHEMA_VERSION }, (_, index) => [index + 1, 1_000]);
    expect(read(folder.file(), (db) => db.query("SELECT * FROM _honkbun_migrations").values())).toEqual(
      versions,
    );
  });

  test("takes a migration back that fails half-way", () => {
    using folder = new Folder();
    using db = new Database(folder.file());
    db.run("CREATE TABLE _honkbun_errors (unexpected INTEGER)");
    const before = schemaOf(db);
    expect(() => open(folder.file())).toThrow("job_id");
    expect(schemaOf(db)).toEqual(before);
  });
});

function read<T>(path: string, reader: (db: Database) => T): T {
  using db = new Database(path, { readonly: true });
  return reader(db);
}

interface Schema {
  /** Columns in their order, by table. */
  readonly tables: Readonly<Record<string, unknown[]>>;
  /** SQL by index. */
  readonly indexes: Readonly<Record<string, string>>;
}

function schemaOf(db: Database): Schema {
  const objects = db
    .query<{ type: string; name: string; sql: string }, []>(
      "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name",
    )
    .all();
  const columns = db.query('SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)');
  const ofType = (wanted: string) => objects.filter(({ type }) => type === wanted);
  return {
    tables: Object.fromEntries(ofType("table").map(({ name }) => [name, columns.all(name)])),
    indexes: Object.fromEntries(ofType("index").map(({ name, sql }) => [name, sql.replace(/\s+/g, " ")])),
  };
}
