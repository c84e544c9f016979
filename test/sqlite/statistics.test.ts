import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { Pool } from "../../src/sqlite/pool.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const POOL = { synchronous: "normal", busyTimeout: 5_000, readers: 4, now: 0, ownsHandle: false } as const;

/** A file with so little in it that, once this is known, SQLite reads whole tables. */
function withLittle(folder: Folder): string {
  using db = open(folder.file());
  db.stream("s").publish(1);
  db.sqlite.run(
    "CREATE TABLE notes (title); CREATE INDEX notes_title ON notes(title); INSERT INTO notes VALUES ('a')",
  );
  return folder.file();
}

/** How a stream would be read on this connection. */
function plan(handle: Database): string {
  handle.run("SELECT 1 FROM _honker_stream"); // which sees whether the schema has changed: EXPLAIN does not
  const steps = handle.prepare<{ detail: string }, []>(
    "EXPLAIN QUERY PLAN SELECT payload FROM _honker_stream WHERE topic = 's' ORDER BY offset LIMIT 1",
  );
  const [step] = steps.all();
  steps.finalize();
  return step?.detail ?? "";
}

function tablesWithStatistics(handle: Database): string[] {
  const rows = handle.prepare<{ tbl: string }, []>("SELECT DISTINCT tbl FROM sqlite_stat1 ORDER BY tbl");
  const tables = rows.all().map(({ tbl }) => tbl);
  rows.finalize();
  return tables;
}

describe("what ANALYZE has found in honkbun's tables is forgotten", () => {
  test("on every connection, while what it found in the application's stays", async () => {
    using folder = new Folder();
    const path = withLittle(folder);
    using other = new Database(path);
    const pool = new Pool(path, POOL);
    const plans = (): string[] => [
      pool.readCommitted(({ handle }) => plan(handle)),
      plan(pool.writer.connection.handle),
      plan(other),
    ];
    try {
      expect(new Set(plans())).toEqual(new Set([expect.stringMatching(/^SEARCH/)]));
      other.run("ANALYZE");
      expect(new Set(plans())).toEqual(new Set(["SCAN _honker_stream"]));
      await eventually(() => {
        pool.write(undefined, ({ handle }) => handle.run("UPDATE notes SET title = 'b'"));
        return tablesWithStatistics(other).length === 1;
      }, "they are forgotten");
      expect(tablesWithStatistics(other)).toEqual(["notes"]);
      expect(new Set(plans())).toEqual(new Set([expect.stringMatching(/^SEARCH/)]));
    } finally {
      pool.close();
    }
  });

  test("when a file is opened that has some", async () => {
    using folder = new Folder();
    const path = withLittle(folder);
    using other = new Database(path);
    other.run("PRAGMA optimize = 0x10002");
    expect(tablesWithStatistics(other)).toContain("_honker_stream");
    using _ = open(path);
    await eventually(() => tablesWithStatistics(other).length === 1, "they are forgotten");
  });

  test("when others commit, by who only listens", async () => {
    using folder = new Folder();
    const path = withLittle(folder);
    using db = open(path, { wake: { safetyInterval: false } });
    using _ = db.listen("c", () => {});
    using other = new Database(path);
    other.run("ANALYZE _honker_stream");
    await eventually(() => {
      other.run("UPDATE notes SET title = 'b'");
      return tablesWithStatistics(other).length === 0;
    }, "they are forgotten");
  });

  test("in memory", async () => {
    using db = open(":memory:");
    db.stream("s").publish(1);
    db.sqlite.run("ANALYZE");
    expect(plan(db.sqlite)).toBe("SCAN _honker_stream");
    await eventually(() => {
      db.notify("c");
      return tablesWithStatistics(db.sqlite).length === 0;
    }, "they are forgotten");
    expect(plan(db.sqlite)).toStartWith("SEARCH");
  });
});
