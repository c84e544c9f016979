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

/** Looks through a file for what is wrong with it, or may become so. */
export function check(pool: Pool, clock: Clock): CheckReport {
  const { path } = pool;
  return pool.readCommitted((connection) => {
    const integrity = checkIntegrity(connection);
    const wal = path === null ? null : checkWal(connection, path);
    // Of a damaged file nothing else can be told for certain.
    const rest =
      integrity.length > 0 ? [] : [...checkSchema(connection), ...checkJobsIfWhole(connection, clock())];
    return { findings: [...integrity, ...(wal?.findings ?? []), ...rest], wal: wal?.wal ?? null };
  });
}

function checkIntegrity(connection: Connection): Finding[] {
  return damages(connection)
    .filter((message) => message !== "ok")
    .map((message) => ({
      kind: "integrity",
      message,
      advice:
        "The file is damaged: by the disk, or by a program that wrote to it past SQLite. Stop what writes, keep a copy, and restore a backup, or rescue what can be read with the sqlite3 shell's .recover.",
    }));
}

function damages(connection: Connection): string[] {
  try {
    return connection
      .prepare<{ integrity_check: string }>(`PRAGMA integrity_check(${MESSAGES})`)
      .all()
      .map(({ integrity_check }) => integrity_check);
  } catch (error) {
    if (error instanceof SQLiteError && error.code?.startsWith("SQLITE_CORRUPT") === true)
      return [error.message];
    throw error;
  }
}

function checkJobsIfWhole(connection: Connection, now: number): Finding[] {
  try {
    return checkJobs(connection, now);
  } catch {
    return []; // without its tables, which is told
  }
}
