import type { Database } from "bun:sqlite";

import { show } from "../duration.ts";
import { AmbiguousTransactionError, ClosedError } from "../errors.ts";
import { isThenable } from "../thenable.ts";
import { isBusy, type LockWait } from "./busy.ts";
import type { Connection, Statement } from "./connection.ts";
import { finishTransaction, inSavepoint, prepareTransactionStatements } from "./transaction.ts";

/** What follows from the end of a transaction. */
export interface Consequence {
  readonly committed?: () => void;
  readonly rolledBack?: () => void;
}

/** The application's connection, and the transactions that `db.transaction` begins on it. */
export class Writer {
  readonly connection: Connection;
  readonly #wait: LockWait;
  readonly #committed: () => void;
  /** How long SQLite itself waits for the application's own statements, in milliseconds; null on a handle that is not ours. */
  readonly #busyTimeout: number | null;
  #timeouts: { readonly none: Statement; readonly some: Statement } | undefined;
  #depth = 0;
  #closed = false;
  /** What hangs on the open transaction; what was added above a mark hangs on the innermost savepoint. */
  #consequences: Consequence[] = [];

  /** `committed` is called after every commit of ours on this connection. */
  constructor(connection: Connection, wait: LockWait, busyTimeout: number | null, committed: () => void) {
    this.connection = connection;
    this.#wait = wait;
    this.#busyTimeout = busyTimeout;
    this.#committed = committed;
  }

  /** To be called once the file is ready: what the application runs on the handle by itself waits from now on. */
  letOthersWait(): void {
    if (this.#busyTimeout !== null) this.connection.execute(`PRAGMA busy_timeout = ${this.#busyTimeout}`);
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
    const result = this.#impatiently(() => this.#wait.run(() => statement(this.connection)));
    this.#committed();
    return result;
  }

  /**
   * Runs `fn` in a transaction, or in a savepoint of the one that is open.
   * @throws TypeError when `fn` returns a promise; AmbiguousTransactionError inside a transaction that is not ours.
   */
  transaction<T>(fn: (tx: Database) => T): T {
    if (typeof fn !== "function") throw new TypeError(`transaction: fn must be a function, got ${show(fn)}`);
    if (this.#depth > 0) {
      this.#assertStillOpen();
      return this.#run(fn, inSavepoint);
    }
    this.#assertNoTransaction();
    const { begin } = this.connection.use(prepareTransactionStatements);
    this.#impatiently(() => this.#wait.run(() => begin.run()));
    return this.#runOutermost(fn);
  }

  /** Runs `fn` in a transaction of its own, unless the lock is taken, or the handle inside a transaction: then null. */
  tryTransaction<T>(fn: (tx: Database) => T): { readonly result: T } | null {
    if (this.#isInTransaction()) return null;
    try {
      this.#impatiently(() => this.connection.use(prepareTransactionStatements).begin.run());
    } catch (error) {
      if (isBusy(error)) return null;
      throw error;
    }
    return { result: this.#runOutermost(fn) };
  }

  /** Our own waiting is fairer than SQLite's, and loops do not wait at all. */
  #impatiently<T>(attempt: () => T): T {
    if (this.#busyTimeout === null) return attempt();
    const { none, some } = this.#timeouts ?? this.#prepareTimeouts(this.#busyTimeout);
    none.get();
    try {
      return attempt();
    } finally {
      some.get();
    }
  }

  #prepareTimeouts(busyTimeout: number) {
    const prepare = (timeout: number): Statement =>
      this.connection.prepare(`PRAGMA busy_timeout = ${timeout}`);
    this.#timeouts = { none: prepare(0), some: prepare(busyTimeout) };
    return this.#timeouts;
  }

  #runOutermost<T>(fn: (tx: Database) => T): T {
    const result = this.#run(fn, finishTransaction);
    this.#committed();
    for (const { committed } of this.#consequences.splice(0)) committed?.();
    return result;
  }

  #run<T>(fn: (tx: Database) => T, end: (connection: Connection, work: () => T) => T): T {
    const mark = this.#consequences.length;
    this.#depth++;
    try {
      return end(this.connection, () => this.#call(fn));
    } catch (error) {
      for (const { rolledBack } of this.#consequences.splice(mark).reverse()) rolledBack?.();
      throw error;
    } finally {
      this.#depth--;
    }
  }

  /** Waits for the end of the open transaction; without one, what was written is committed already. */
  onEnd(consequence: Consequence): void {
    if (this.#depth > 0) this.#consequences.push(consequence);
    else consequence.committed?.();
  }

  close(): void {
    this.#closed = true;
  }

  get #handle(): Database {
    return this.connection.handle;
  }

  #call<T>(fn: (tx: Database) => T): T {
    const result = fn(this.#handle);
    if (isThenable(result)) {
      result.then(undefined, () => {}); // its rejection, if any, comes after the error below
      throw new TypeError(
        "transaction: the callback returned a promise, and its transaction was rolled back. " +
          "A transaction is synchronous: await first, then write",
      );
    }
    this.#assertStillOpen();
    return result;
  }

  /** @throws ClosedError */
  #isInTransaction(): boolean {
    if (this.#closed) throw new ClosedError("this honkbun handle is closed");
    try {
      return this.#handle.inTransaction;
    } catch (cause) {
      throw new ClosedError("the bun:sqlite handle that honkbun works on was closed", { cause });
    }
  }

  #assertNoTransaction(): void {
    if (this.#isInTransaction()) {
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
