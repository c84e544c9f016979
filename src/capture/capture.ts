import { assertName } from "../options.ts";
import { isBusy } from "../sqlite/busy.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { type CaptureOptions, type CaptureTerms, type Operation, readCapture } from "./capture-options.ts";
import { findTable, type Table } from "./table.ts";
import { quoteName, triggerOf } from "./triggers.ts";

/** What a captured write becomes: the payload of the event, notification or job. Blobs are base64. */
export interface Change<Row = Record<string, unknown>> {
  readonly operation: Operation;
  readonly table: string;
  /** The primary key by its columns, or the row id; of an update, as it is now. */
  readonly key: Record<string, unknown>;
  /** Null for an insert. */
  readonly old: Row | null;
  /** Null for a delete. */
  readonly new: Row | null;
}

export interface CaptureInfo {
  readonly table: string;
  readonly on: readonly Operation[];
  /** Like `"stream orders"`. */
  readonly into: string;
}

/** Of all triggers of ours on tables of the application; the operation, and a number that makes it unique. */
const NAME = /^_honkbun_capture_(insert|update|delete)_(\d+)$/;
/** What stands in front of each: the definition, so that the schema itself says what there is. */
const NOTE = /\/\* (honkbun captures (.*?)) \*\//s;

/**
 * Changes of tables, captured by triggers in the file: whatever program writes, each change is in the transaction of the write.
 */
export class Capture {
  readonly #pool: Pool;

  /** @internal */
  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /**
   * Captures the changes of a table from now on; a definition that is there already is replaced. The same again changes nothing, but
   * that columns which were added to the table are told from then on. Joins the open `db.transaction`.
   * @throws TypeError for a table that is no ordinary one, for columns that it has not, and for a `when` that is no condition
   * @example
   * db.capture.add("users", { on: ["update", "delete"], into: { stream: "users" } });
   */
  add(table: string, options: CaptureOptions): void {
    assertName(table, "capture.add: table");
    const call = `capture.add: ${table}`;
    const terms = readCapture(call, options);
    const isSame = this.#pool.read((connection) => {
      const found = findTable(connection, table, call);
      const note = noteOf(found, terms);
      const stored = triggersOn(connection, found.name);
      return stored.length === terms.on.length && stored.every(({ sql }) => NOTE.exec(sql)?.[1] === note);
    });
    if (isSame) return; // a deployment adds all again: that must not even wait for the write lock
    this.#pool.writeAll(undefined, (connection) => {
      const found = findTable(connection, table, call);
      assertColumns(found, terms, call);
      drop(connection, found.name);
      let number = nextNumber(connection);
      for (const operation of terms.on) {
        const name = `_honkbun_capture_${operation}_${number++}`;
        create(connection, triggerOf(name, found, terms, operation, noteOf(found, terms)), call);
        // SQLite looks at what is in a trigger only when it is compiled: not in the application's next write.
        compile(connection, found, operation, terms, call);
      }
    });
  }

  /** What is captured, by table. */
  list(): readonly CaptureInfo[] {
    const rows = this.#pool.read((connection) => connection.use(prepareCaptureStatements).all.all());
    const byTable = new Map<string, CaptureInfo>();
    for (const { tbl_name: table, sql } of rows) {
      const note = NOTE.exec(sql)?.[2];
      if (note === undefined) continue;
      const { on, into } = JSON.parse(note) as Pick<CaptureTerms, "on" | "into">;
      byTable.set(table, { table, on, into: `${into.kind} ${into.name}` });
    }
    return [...byTable.values()];
  }

  /** Captures changes of a table no more. Does nothing when none were. Joins the open `db.transaction`. */
  remove(table: string): void {
    assertName(table, "capture.remove: table");
    this.#pool.writeAll(undefined, (connection) => drop(connection, table));
  }
}

/** A definition, and the columns that it was made for, without what would end a comment. */
function noteOf(table: Table, { on, columns, when, into }: CaptureTerms): string {
  const terms = {
    on,
    columns: columns ?? table.columns,
    isAll: columns === null,
    key: table.key,
    when,
    into,
  };
  return `honkbun captures ${JSON.stringify(terms).replaceAll("/", "\\/")}`;
}

function triggersOn(connection: Connection, table: string): readonly { name: string; sql: string }[] {
  return connection
    .use(prepareCaptureStatements)
    .all.all()
    .filter(({ tbl_name }) => tbl_name.toLowerCase() === table.toLowerCase());
}

function nextNumber(connection: Connection): number {
  const numbers = connection
    .use(prepareCaptureStatements)
    .all.all()
    .map(({ name }) => Number(NAME.exec(name)?.[2] ?? 0));
  return Math.max(0, ...numbers) + 1;
}

function drop(connection: Connection, table: string): void {
  for (const { name } of triggersOn(connection, table)) connection.execute(`DROP TRIGGER ${quoteName(name)}`);
}

/** @throws TypeError */
function assertColumns(table: Table, { columns }: CaptureTerms, call: string): void {
  const unknown = columns?.find((column) => !table.columns.includes(column));
  if (unknown === undefined) return;
  throw new TypeError(
    `${call}: columns: the table has no column ${JSON.stringify(unknown)}; it has ${table.columns.join(", ")}`,
  );
}

/** @throws TypeError when `when` is no SQL */
function create(connection: Connection, sql: string, call: string): void {
  try {
    connection.execute(sql);
  } catch (cause) {
    if (isBusy(cause)) throw cause;
    throw new TypeError(`${call}: when: ${(cause as Error).message}`, { cause });
  }
}

/** @throws TypeError when the condition names what there is not, such as `old` on an insert */
function compile(
  connection: Connection,
  { name, writable }: Table,
  operation: Operation,
  { when }: CaptureTerms,
  call: string,
): void {
  const [table, column] = [quoteName(name), quoteName(writable)];
  const writes: Record<Operation, string> = {
    insert: `INSERT INTO ${table} DEFAULT VALUES`,
    update: `UPDATE ${table} SET ${column} = ${column}`,
    delete: `DELETE FROM ${table}`,
  };
  try {
    connection.handle.prepare(`EXPLAIN ${writes[operation]}`).finalize();
  } catch (cause) {
    throw new TypeError(
      `${call}: when: ${JSON.stringify(when)} cannot be asked of ${operation}: ${(cause as Error).message}`,
      { cause },
    );
  }
}

interface CaptureStatements {
  readonly all: Statement<{ name: string; tbl_name: string; sql: string }, []>;
}

function prepareCaptureStatements(connection: Connection): CaptureStatements {
  return {
    all: connection.prepare(
      `SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' AND name GLOB '_honkbun_capture_*' ORDER BY tbl_name, name`,
    ),
  };
}
