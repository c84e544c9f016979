import { SQLiteError } from "bun:sqlite";

import type { Clock } from "../clock.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { CheckReport, Finding } from "./finding.ts";
import { checkJobs } from "./jobs-check.ts";
import { checkSchema } from "./schema-check.ts";
import { checkWal } from "./wal-check.ts";

/** Messages of SQLite's about a damaged file, at most. */
const MESSAGES = 10;

/** The codes of what SQLite throws when it cannot even go on checking. */
const DAMAGED = /^SQLITE_(CORRUPT|NOTADB|IOERR)/;

/** Looks through a file for what is wrong with it, or may become so. */
export function check(pool: Pool, clock: Clock): CheckReport {
  const { path } = pool;
  const failure = pool.checkFailure();
  if (failure !== null) throw failure;
  return pool.readCommitted((connection) => {
    const integrity = checkIntegrity(connection);
    const wal = path === null ? null : checkWal(connection, path);
    // Of a damaged file nothing else can be told for certain.
    const rest = integrity.length > 0 ? [] : [...checkSchema(connection), ...checkJobs(connection, clock())];
    return { findings: [...integrity, ...(wal?.findings ?? []), ...rest], wal: wal?.wal ?? null };
  });
}

function checkIntegrity(connection: Connection): Finding[] {
  return damages(connection).map((message) => ({
    kind: "integrity",
    message,
    advice: /^(CHECK constraint failed|NULL value in)/.test(message)
      ? "The file is whole, but a row is not as its table asks: it was written before the constraint was, or while such checks were off."
      : "The file is damaged: by the disk, or by a program that wrote to it past SQLite. Stop what writes, keep a copy, and restore a backup, or rescue what can be read with the sqlite3 shell's .recover.",
  }));
}

function damages(connection: Connection): string[] {
  try {
    return integrityCheck(connection, String(MESSAGES));
  } catch (error) {
    if (!(error instanceof SQLiteError)) throw error;
    if (DAMAGED.test(error.code ?? "")) return [error.message];
    // The application's tables may need functions or collations that are not known here.
    const tables = connection
      .prepare<{ name: string }>(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '_honk*_*'",
      )
      .all();
    return tables.flatMap(({ name }) => integrityCheck(connection, `'${name.replaceAll("'", "''")}'`));
  }
}

function integrityCheck(connection: Connection, of: string): string[] {
  return connection
    .prepare<{ integrity_check: string }>(`PRAGMA integrity_check(${of})`)
    .all()
    .map(({ integrity_check }) => integrity_check)
    .filter((message) => message !== "ok");
}
