import type { Database } from "bun:sqlite";

import { AmbiguousTransactionError, ClosedError, OpenError } from "../errors.ts";
import type { LockWait } from "./busy.ts";
import { expectedSchema } from "./own-schema.ts";

/** Asks a handle that the application gave us whether it will do, before anything is written. */
export function assertUsable(handle: Database): void {
  let occupied: boolean;
  try {
    occupied = handle.inTransaction;
  } catch (cause) {
    throw new ClosedError(`open: the bun:sqlite handle on ${handle.filename} is closed`, { cause });
  }
  if (occupied) {
    throw new AmbiguousTransactionError(
      `open: the bun:sqlite handle on ${handle.filename} is inside a transaction; open honkbun before or after it`,
    );
  }
}

/** @throws OpenError when statements on the handle would find temporary tables in place of the file's. */
export function assertNothingHidden(handle: Database): void {
  const temporary = handle
    .query<{ name: string }, []>("SELECT lower(name) AS name FROM sqlite_temp_schema")
    .all();
  const hiding = temporary.find(({ name }) => expectedSchema().has(name));
  if (hiding !== undefined) {
    throw new OpenError(
      "FAILED",
      handle.filename,
      `open: the bun:sqlite handle on ${handle.filename} has a temporary ${hiding.name}, which hides the file's own`,
    );
  }
}

/** Fails on a read-only handle, where BEGIN IMMEDIATE by itself does not. */
export function assertWritable(handle: Database, wait: LockWait): void {
  wait.run(() => handle.run("BEGIN IMMEDIATE"));
  try {
    handle.run("PRAGMA incremental_vacuum(1)"); // asks to write; most files give it nothing to do
  } finally {
    if (handle.inTransaction) handle.run("ROLLBACK");
  }
}
