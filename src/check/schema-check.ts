import { Database } from "bun:sqlite";

import { LockWait } from "../sqlite/busy.ts";
import { Connection } from "../sqlite/connection.ts";
import { migrate } from "../sqlite/migrations.ts";
import type { Finding } from "./finding.ts";

interface SchemaRow {
  readonly type: "table" | "index" | "trigger" | "view";
  readonly name: string;
  readonly tbl_name: string;
  readonly sql: string | null;
}

/** What a file's tables, indexes, triggers and views are, beside what they should be. */
export function checkSchema(connection: Connection): Finding[] {
  const [found, expected] = [readSchema(connection), expectedSchema()];
  const findings: Finding[] = [];
  for (const [name, { type, sql, columns }] of expected) {
    const one = found.get(name);
    if (one === undefined) findings.push(drift(`the ${type} ${name} is missing`));
    else if (type === "table") {
      const missing = columns.filter((column) => !one.columns.includes(column));
      if (missing.length > 0) findings.push(drift(`the table ${name} lacks ${missing.join(", ")}`));
      else if (normalized(one.sql) !== normalized(sql) && isOwn(name)) findings.push(changed(type, name));
    } else if (normalized(one.sql) !== normalized(sql) && isOwn(name)) {
      findings.push(changed(type, name));
    }
  }
  for (const [name, { type, table }] of found) {
    if (type !== "trigger" || expected.has(name) || !expected.has(table)) continue;
    findings.push({
      kind: "trigger",
      message: `the trigger ${name} on ${table} is not honkbun's`,
      advice: `It runs within every write to that table, and can change or refuse it. Unless it is yours: DROP TRIGGER "${name}"`,
    });
  }
  return findings;
}

function changed(type: string, name: string): Finding {
  return drift(`the ${type} ${name} is not as honkbun made it`);
}

function drift(message: string): Finding {
  return {
    kind: "schema",
    message,
    advice:
      "Somebody has changed it by hand. Restore the file from a backup, or let honkbun create its tables in a new file and copy the rows.",
  };
}

interface SchemaObject {
  readonly type: SchemaRow["type"];
  readonly table: string;
  readonly sql: string;
  /** Of honkbun's and honker's tables. */
  readonly columns: readonly string[];
}

function readSchema(connection: Connection): Map<string, SchemaObject> {
  const rows = connection
    .prepare<SchemaRow>("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    .all();
  const columns = connection.prepare<{ name: string }, [string]>("SELECT name FROM pragma_table_xinfo(?1)");
  return new Map(
    rows.map(({ type, name, tbl_name, sql }) => [
      name,
      {
        type,
        table: tbl_name.toLowerCase(), // as it was written
        sql: sql ?? "",
        // Of others it may not be possible to tell: virtual tables, whose module is not loaded here.
        columns:
          type === "table" && /^_honk(er|bun)_/.test(name)
            ? columns.all(name).map((column) => column.name)
            : [],
      },
    ]),
  );
}

let expectedOnce: Map<string, SchemaObject> | undefined;

function expectedSchema(): Map<string, SchemaObject> {
  if (expectedOnce !== undefined) return expectedOnce;
  using handle = new Database(":memory:");
  const connection = new Connection(handle, true);
  migrate(connection, ":memory:", new LockWait(0), 0);
  expectedOnce = readSchema(connection);
  return expectedOnce;
}

/** honker writes its own tables and indexes in other words. */
function isOwn(name: string): boolean {
  return !name.startsWith("_honker_");
}

/** IF NOT EXISTS is left out by SQLite, white space is not. */
function normalized(sql: string): string {
  return sql.replaceAll(/\s+/g, " ").trim();
}
