import { Database } from "bun:sqlite";

import { OpenError } from "../errors.ts";
import { LockWait } from "./busy.ts";
import { Connection } from "./connection.ts";
import { migrate } from "./migrations.ts";

/** A table, index, trigger or view. */
export interface SchemaObject {
  readonly type: "table" | "index" | "trigger" | "view";
  readonly name: string;
  /** The table that it is on, or its own name; in lower case, as it may be written in any. */
  readonly table: string;
  readonly sql: string;
  /** Of honkbun's and honker's tables. */
  readonly columns: readonly string[];
}

/** All but what SQLite itself has made, by their names. */
export function readSchema(connection: Connection): Map<string, SchemaObject> {
  // The columns of other tables may not be known: virtual ones, whose module is not loaded here.
  const objects = connection.prepare<Omit<SchemaObject, "columns"> & { readonly columns: string | null }>(
    `SELECT type, name, lower(tbl_name) AS "table", sql,
       iif(type = 'table' AND (lower(name) GLOB '_honker_*' OR lower(name) GLOB '_honkbun_*'),
         (SELECT json_group_array(name) FROM pragma_table_xinfo(object.name)), NULL) AS columns
     FROM sqlite_schema AS object WHERE sql IS NOT NULL`,
  );
  return new Map(
    objects
      .all()
      .map(({ columns, ...object }) => [
        object.name.toLowerCase(),
        { ...object, columns: columns === null ? [] : (JSON.parse(columns) as string[]) },
      ]),
  );
}

let expectedOnce: ReadonlyMap<string, SchemaObject> | undefined;

/** What honkbun makes of an empty file. */
export function expectedSchema(): ReadonlyMap<string, SchemaObject> {
  if (expectedOnce !== undefined) return expectedOnce;
  using handle = new Database(":memory:");
  const connection = new Connection(handle, true);
  migrate(connection, ":memory:", new LockWait(0), 0);
  expectedOnce = readSchema(connection);
  return expectedOnce;
}

/** Of a table that is not as it should be, what it lacks. */
export function missingColumns(found: SchemaObject, expected: SchemaObject): readonly string[] {
  return expected.columns.filter((column) => !found.columns.includes(column));
}

/**
 * Nothing would be stored, or be lost, in tables that are not ours or under triggers that undo what we write. What is missing and
 * can be done without, `db.check()` tells of.
 * @throws OpenError
 */
export function assertSchema(connection: Connection, path: string): void {
  const found = readSchema(connection);
  const refuse = (what: string): never => {
    throw new OpenError("DAMAGED", path, `open: ${path} is not as honkbun has made it: ${what}`);
  };
  for (const [name, expected] of expectedSchema()) {
    const object = found.get(name);
    if (object === undefined) {
      if (expected.type === "table") refuse(`the table ${name} is missing`);
    } else if (object.type !== expected.type || object.table !== expected.table) {
      refuse(`${name} is a ${object.type} of ${object.table}`);
    } else {
      const missing = missingColumns(object, expected);
      if (missing.length > 0) refuse(`the table ${name} lacks ${missing.join(", ")}`);
    }
  }
  for (const { type, name, table, sql } of found.values()) {
    const isIgnoring = type === "trigger" && /\braise\s*\(\s*ignore\b/i.test(sql);
    if (isIgnoring && expectedSchema().has(table)) {
      refuse(
        `the trigger ${name} on ${table} has writes ignored, by RAISE(IGNORE), that would count as done`,
      );
    }
  }
}
