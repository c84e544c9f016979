import type { Database } from "bun:sqlite";

import { show } from "../duration.ts";
import { AmbiguousTransactionError, ClosedError } from "../errors.ts";
import type { LockWait } from "./busy.ts";
import type { Connection, Statement } from "./connection.ts";

/** The application's connection, and the transactions that `db.transaction` begins on it. */
export class Writer {
  readonly connection: Connection;
  readonly #wait: LockWait;
  readonly #committed: () => void;
  #depth = 0;
  #closed = false;
  /** What to take back when the open transaction, or the savepoint above a mark, is rolled back. */
  #undo: (() => void)[] = [];

  /** `committed` is called after every commit of ours on this connection. */
  constructor(connection: Connection, wait: LockWait, committed: () => void) {
    this.connection = connection;
    this.#wait = wait;
    this.#committed = committed;
  }

  /** Whether a callback of `transaction` is running. */
  get inTransaction(): boolean {
    return this.#depth > 0;
  }

  /** Whether the handle is inside a transaction, whoever began it. */
  get isOccupied(): boolean {
    return this.#handle.inTransaction;
  }

  /** Whether the handle can no longer be used, whoever closed it. */
  get isClosed(): boolean {
    try {
      void this.#handle.inTransaction;
      return this.#closed;
    } catch {
      return true;
    }
  }

  /**
   * Runs one statement: on the open transaction of ours, or committed by itself.
   * @throws AmbiguousTransactionError inside a transaction that is not ours.
   */
  write<T>(statement: (connection: Connection) => T): T {
    if (this.#depth > 0) {
      this.#assertStillOpen();
      return statement(this.connection);
    }
    this.#assertNoTransaction();
    const result = this.#wait.run(() => statement(this.connection));
    this.#committed();
    return result;
  }

  /**
   * Runs `fn` in a transaction, or in a savepoint of the one that is open.
   * @throws TypeError when `fn` returns a promise; AmbiguousTransactionError inside a transaction that is not ours.
   */
  transaction<T>(fn: (tx: Database) => T): T {
    if (typeof fn !== "function") throw new TypeError(`transaction: fn must be a function, got ${show(fn)}`);
    const nested = this.#depth > 0;
    const { begin, commit, rollback, savepoint, release, rollbackTo } = this.connection.use(
      prepareTransactionStatements,
    );
    if (nested) {
      this.#assertStillOpen();
      savepoint.run();
    } else {
      this.#assertNoTransaction();
      this.#wait.run(() => begin.run());
    }
    const mark = this.#undo.length;
    let committed = false;
    this.#depth++;
    try {
      const result = fn(this.#handle);
      if (isThenable(result)) {
        result.then(undefined, () => {}); // its rejection, if any, comes after the error below
        throw new TypeError(
          "transaction: the callback returned a promise, and its transaction was rolled back. " +
            "A transaction is synchronous: await first, then write",
        );
      }
      this.#assertStillOpen();
      (nested ? release : commit).run();
      committed = !nested;
      return result;
    } catch (error) {
      // SQLite itself rolls back on some errors (disk full, I/O); then there is nothing left to end.
      if (!this.#closed && this.#handle.inTransaction) {
        if (nested) {
          rollbackTo.run();
          release.run();
        } else {
          rollback.run();
        }
      }
      for (const undo of this.#undo.splice(mark).reverse()) undo();
      throw error;
    } finally {
      this.#depth--;
      if (committed) {
        this.#undo = [];
        this.#committed();
      }
    }
  }

  /** Calls `undo` if the open transaction of ours is rolled back. */
  onRollback(undo: () => void): void {
    if (this.#depth > 0) this.#undo.push(undo);
  }

  close(): void {
    this.#closed = true;
  }

  get #handle(): Database {
    return this.connection.handle;
  }

  #assertNoTransaction(): void {
    if (this.#closed) throw new ClosedError("this honkbun handle is closed");
    let occupied: boolean;
    try {
      occupied = this.#handle.inTransaction;
    } catch (cause) {
      throw new ClosedError("the bun:sqlite handle that honkbun works on was closed", { cause });
    }
    if (occupied) {
      throw new AmbiguousTransactionError(
        "db.sqlite is inside a transaction that db.transaction did not begin; it may be another request's, left open " +
          "across an await. Use db.transaction, or pass { tx } to send on this transaction",
      );
    }
  }

  #assertStillOpen(): void {
    if (this.#closed)
      throw new ClosedError("this honkbun handle was closed inside the transaction, which rolled it back");
    if (!this.#handle.inTransaction) {
      throw new AmbiguousTransactionError(
        "the transaction of db.transaction was ended inside its callback; return or throw to end it",
      );
    }
  }
}

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

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === "object" || typeof value === "function") &&
    value !== null &&
    typeof (value as { then?: unknown }).then === "function"
  );
}
