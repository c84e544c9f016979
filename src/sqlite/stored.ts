import type { Changes } from "bun:sqlite";

import { NotStoredError } from "../errors.ts";
import type { Connection } from "./connection.ts";

/** @throws NotStoredError where somebody's trigger has a statement ignored, so that it has not changed what it was to change */
export function assertStored(table: string, isStored: boolean): void {
  if (isStored) return;
  throw new NotStoredError(`a trigger on ${table} that is not honkbun's has writes ignored`);
}

type Table = "_honker_live" | "_honker_stream" | "_honker_notifications";

/**
 * The id of the last row that an INSERT of `count` rows has stored.
 * @throws NotStoredError where somebody's trigger has stopped it, or no id is left that a number can hold; then none are stored.
 */
export function insertedId(
  connection: Connection,
  table: Table,
  { changes, lastInsertRowid }: Changes,
  count = 1,
): number {
  assertStored(table, Number(changes) >= count);
  const id = Number(lastInsertRowid);
  if (Number.isSafeInteger(id)) return id;
  connection.execute(
    `DELETE FROM ${table} WHERE rowid BETWEEN last_insert_rowid() - ${count - 1} AND last_insert_rowid()`,
  );
  throw new NotStoredError(
    `there is no id left for a row of ${table}: another program has stored one beyond ${Number.MAX_SAFE_INTEGER}. ` +
      "Delete that row, and set seq in sqlite_sequence to the largest id that is left",
  );
}
