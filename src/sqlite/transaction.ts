import type { Database } from "bun:sqlite";

import type { Connection, Statement } from "./connection.ts";

interface TransactionStatements {
  readonly begin: Statement;
  readonly commit: Statement;
  readonly rollback: Statement;
  readonly savepoint: Statement;
  readonly release: Statement;
  readonly rollbackTo: Statement;
}

/** IMMEDIATE: a read that is followed by a write in a deferred transaction fails as soon as anybody else writes between. */
export function prepareTransactionStatements(connection: Connection): TransactionStatements {
  return {
    begin: connection.prepare("BEGIN IMMEDIATE"),
    commit: connection.prepare("COMMIT"),
    rollback: connection.prepare("ROLLBACK"),
    savepoint: connection.prepare("SAVEPOINT honkbun"),
    release: connection.prepare("RELEASE honkbun"),
    rollbackTo: connection.prepare("ROLLBACK TO honkbun"),
  };
}

/** Runs `work` in the transaction that is already begun, and ends it: by COMMIT, or by ROLLBACK when `work` throws. */
export function finishTransaction<T>(connection: Connection, work: () => T): T {
  const { commit, rollback } = connection.use(prepareTransactionStatements);
  try {
    const result = work();
    commit.run();
    return result;
  } catch (error) {
    // SQLite itself rolls back on some errors (disk full, I/O); then there is nothing left to end.
    if (isInTransaction(connection.handle)) rollback.run();
    throw error;
  }
}

/** Runs `work` in a savepoint: when it throws, its writes alone are undone. */
export function inSavepoint<T>(connection: Connection, work: () => T): T {
  const { savepoint, release, rollbackTo } = connection.use(prepareTransactionStatements);
  savepoint.run();
  try {
    const result = work();
    release.run();
    return result;
  } catch (error) {
    if (isInTransaction(connection.handle)) {
      rollbackTo.run();
      release.run();
    }
    throw error;
  }
}

/** Runs `work` in a savepoint: when it says false, its writes alone are undone. Returns what it says. */
export function inSavepointIf(connection: Connection, work: () => boolean): boolean {
  const { rollbackTo } = connection.use(prepareTransactionStatements);
  return inSavepoint(connection, () => {
    const isDone = work();
    if (!isDone) rollbackTo.run();
    return isDone;
  });
}

/** False for a handle that is closed, which rolled it back. */
export function isInTransaction(handle: Database): boolean {
  try {
    return handle.inTransaction;
  } catch {
    return false;
  }
}
