import { Database } from "bun:sqlite";

import { OpenError } from "../errors.ts";
import { LockWait } from "./busy.ts";
import { Connection } from "./connection.ts";
import { migrate, SCHEMA_VERSION } from "./migrations.ts";

/** A table, index, trigger or view. */
export interface SchemaObject {
  readonly type: "table" | "index" | "trigger" | "view";
  readonly name: string;
  /** The table that it is on, or its own name; in lower case, as it may be written in any. */
  readonly table: string;
  readonly sql: string;
  /** Of tables. */
  readonly columns: readonly string[];
  /** Names of a table's unique indexes, but for its primary key's. */
  readonly uniques: readonly string[];
}

/** Tables, indexes, triggers and views under our names, and what else is on our tables; by their names in lower case. */
export function readSchema(connection: Connection): Map<string, SchemaObject> {
  const isOurs = (name: string): string =>
    `(lower(${name}) GLOB '_honker_*' OR lower(${name}) GLOB '_honkbun_*')`;
  // Of other tables it may not be possible to tell: virtual ones, whose module is not loaded here.
  const ifTable = (list: string): string =>
    `iif(type = 'table' AND ${isOurs("name")}, (SELECT ${list}), '[]')`;
  const objects = connection.prepare<
    Omit<SchemaObject, "columns" | "uniques"> & { readonly columns: string; readonly uniques: string }
  >(
    `SELECT type, name, lower(tbl_name) AS "table", sql,
       ${ifTable("json_group_array(name) FROM pragma_table_xinfo(object.name)")} AS columns,
       ${ifTable(`json_group_array(lower(name)) FROM pragma_index_list(object.name) WHERE "unique" = 1 AND origin <> 'pk'`)}
         AS uniques
     FROM sqlite_schema AS object
     WHERE sql IS NOT NULL AND (${isOurs("name")} OR ${isOurs("tbl_name")} OR lower(name) GLOB 'honkbun_*')`,
  );
  return new Map(
    objects
      .all()
      .map(({ columns, uniques, ...object }) => [
        object.name.toLowerCase(),
        { ...object, columns: JSON.parse(columns) as string[], uniques: JSON.parse(uniques) as string[] },
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
 * Refuses a file in which jobs would be lost: in tables that are not ours, or by triggers that undo in silence what we write. What is
 * missing and can be done without, `db.check()` tells of; so it does of triggers that do what they do openly.
 * @throws OpenError
 */
export function assertSchema(connection: Connection, path: string, version: number): void {
  const found = readSchema(connection);
  const refuse = (what: string): never => {
    throw new OpenError("DAMAGED", path, `open: ${path} is not as honkbun has made it: ${what}`);
  };
  for (const [name, expected] of expectedSchema()) {
    const object = found.get(name);
    if (object === undefined) {
      if (expected.type === "table" && version === SCHEMA_VERSION) refuse(`the table ${name} is missing`);
    } else if (object.type !== expected.type || object.table !== expected.table) {
      refuse(`${name} is a ${object.type} of ${object.table}`);
    } else if (object.type === "table") {
      // What lacks some is migrated yet, but for a table under a name of ours in a file that we have never seen.
      const isWhole = version === SCHEMA_VERSION || (version === 0 && !name.startsWith("_honker_"));
      const missing = isWhole ? missingColumns(object, expected) : [];
      if (missing.length > 0) refuse(`the table ${name} lacks ${missing.join(", ")}`);
      const difference = TRAITS.find((trait) => trait.test(code(object)) !== trait.test(code(expected)));
      if (difference !== undefined || object.uniques.some((index) => !expected.uniques.includes(index))) {
        refuse(`the table ${name} is declared otherwise: ${object.sql}`);
      }
    }
  }
  for (const object of found.values()) {
    if (object.type === "trigger" && IGNORES.test(code(object)) && expectedSchema().has(object.table)) {
      refuse(
        `the trigger ${object.name} on ${object.table} has writes ignored, by RAISE(IGNORE), that would count as done`,
      );
    }
  }
}

/** What decides whether ids are given twice, and rows dropped in silence. */
const TRAITS = [
  /\bautoincrement\b/i,
  /\bon\s+conflict\b/i,
  /\bwithout\s+rowid\b/i,
  /^\s*create\s+virtual\b/i,
];
const IGNORES = /\braise\s*\(\s*ignore\b/i;

/** The SQL of an object without comments, strings and quoted names. */
function code({ sql }: SchemaObject): string {
  return sql.replaceAll(
    /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]/g,
    " ",
  );
}
