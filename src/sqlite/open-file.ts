import { Database, SQLiteError } from "bun:sqlite";
import { accessSync, constants, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

import { OpenError } from "../errors.ts";
import type { LockWait } from "./busy.ts";

const MEMORY = ":memory:";

/**
 * Opens a connection of ours that writes, on a file that may not exist yet.
 * @throws TypeError for what is not a path; OpenError for a path that cannot be a database.
 */
export function openFile(file: string): Database {
  if (file === MEMORY) return new Database(MEMORY);
  // SQLite would take an empty string for a temporary database, a null byte for the end of the path, and half a surrogate
  // pair for another character.
  if (file === "" || file.includes("\0") || !file.isWellFormed()) {
    throw new TypeError(`open: file must be a path or ":memory:", got ${JSON.stringify(file)}`);
  }
  if (file.startsWith("file:")) {
    throw new TypeError(
      `open: file must be a plain path, got the URI ${JSON.stringify(file)}; leave "file:" out`,
    );
  }
  assertUsable(resolve(file));
  try {
    return new Database(file, { create: true, readwrite: true });
  } catch (cause) {
    throw explain(cause, file);
  }
}

/** The absolute path of the handle's file, symbolic links resolved; null for a database in memory. */
export function pathOf(handle: Database): string | null {
  // As a pragma, not as a SELECT from it: that reads the schema, so needs a lock and begins a snapshot.
  const databases = handle.query<{ name: string; file: string }, []>("PRAGMA database_list").all();
  return databases.find(({ name }) => name === "main")?.file || null;
}

/**
 * Puts the file into WAL mode, where it stays.
 * @throws OpenError when it cannot be: not a database, read-only, a file system without shared memory.
 */
export function ensureWal(handle: Database, path: string, wait: LockWait): void {
  try {
    // Several processes that do this at once get SQLITE_BUSY whatever the busy timeout.
    const mode = wait.run(() =>
      handle.query<{ journal_mode: string }, []>("PRAGMA journal_mode = WAL").get(),
    );
    if (mode?.journal_mode === "wal") return;
    throw new OpenError(
      "NO_WAL",
      path,
      `open: ${path} cannot be put into WAL mode; it stays in ${mode?.journal_mode} mode`,
    );
  } catch (cause) {
    throw explain(cause, path);
  }
}

function assertUsable(path: string): void {
  const stat = look(path);
  if (stat?.isDirectory())
    throw new OpenError("DIRECTORY", path, `open: ${path} is a directory, not a database file`);
  const folder = dirname(path);
  if (!look(folder)?.isDirectory()) {
    throw new OpenError(
      "MISSING_FOLDER",
      path,
      `open: there is no folder ${folder} that this process can reach; create it first`,
    );
  }
  if (stat !== undefined) assertWritable(path, path, "the file");
  // The WAL and its index are made beside the database.
  assertWritable(folder, path, "the folder");
}

/** Undefined for what this process cannot see, be it missing, out of reach or no possible name: SQLite refuses it then. */
function look(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function assertWritable(target: string, path: string, what: string): void {
  try {
    accessSync(target, constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new OpenError("READ_ONLY", path, `open: ${what} ${target} is not writable for this process`, {
      cause,
    });
  }
}

/** Says what a SQLite error means for whoever opens a file; errors of other kinds stay as they are. */
export function explain(error: unknown, path: string): unknown {
  if (!(error instanceof SQLiteError)) return error;
  switch (error.errno & 0xff) {
    case 8:
      return new OpenError("READ_ONLY", path, `open: ${path} is read-only`, { cause: error });
    case 26:
      return new OpenError("NOT_A_DATABASE", path, `open: ${path} is not a SQLite database`, {
        cause: error,
      });
    case 11:
      return new OpenError("DAMAGED", path, `open: ${path} is damaged: ${error.message}`, { cause: error });
    default:
      return new OpenError("FAILED", path, `open: SQLite fails on ${path}: ${error.message}`, {
        cause: error,
      });
  }
}
