import { isBusy } from "./busy.ts";
import type { Connection } from "./connection.ts";
import { finishTransaction, inSavepoint, prepareTransactionStatements } from "./transaction.ts";

/** How long one try may ask for the lock again and again; longer would be felt by the event loop. */
const SPIN = 0.2;
const MOST_SPINS = 1_000;
/** After a try in vain: at first a millisecond, doubled up to this, each with jitter. */
const LONGEST_PAUSE = 4;

interface Entry {
  readonly work: (connection: Connection) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Group commit: what is written in one tick of the event loop shares one transaction, and every promise resolves after
 * its commit. It never waits for the write lock; while somebody else holds it the group tries again later.
 */
export class WriteGroup {
  /** Throws when there is nothing to write on. */
  readonly #connection: () => Connection;
  readonly #committed: () => void;
  #entries: Entry[] = [];
  #timer: Timer | NodeJS.Immediate | undefined;
  #pause = 1;
  #closed: Error | undefined;
  /** When the write lock was found taken last, by `performance.now()`. */
  lastBusy: number = Number.NEGATIVE_INFINITY;

  /** `committed` is called after every commit. */
  constructor(connection: () => Connection, committed: () => void) {
    this.#connection = connection;
    this.#committed = committed;
  }

  /**
   * Runs `work` in the next group's transaction. It may run more than once, each time after a rollback, so all it may
   * do is to read and write through its connection. When it throws, its writes alone are undone.
   */
  write<T>(work: (connection: Connection) => T): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise<T>((resolve, reject) => {
      this.#entries.push({ work, resolve: resolve as (value: unknown) => void, reject });
      this.#timer ??= setImmediate(this.#flush);
    });
  }

  /** Whether nothing waits to be written. */
  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** Rejects what is not yet committed, and everything that comes later, with `error`. */
  close(error: Error): void {
    this.#closed = error;
    clearTimeout(this.#timer as Timer);
    clearImmediate(this.#timer as NodeJS.Immediate);
    for (const entry of this.#entries.splice(0)) entry.reject(error);
  }

  readonly #flush = (): void => {
    this.#timer = undefined;
    let connection: Connection;
    try {
      connection = this.#connection();
      if (!this.#begin(connection)) {
        this.#timer = setTimeout(this.#flush, this.#pause * (0.5 + Math.random()));
        this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
        return;
      }
    } catch (error) {
      for (const entry of this.#entries.splice(0)) entry.reject(error);
      return;
    }
    this.#pause = 1;
    this.#run(connection, this.#entries.splice(0));
  };

  /** False while the lock is taken, or while the application has a transaction open on a connection we share (`:memory:`). */
  #begin(connection: Connection): boolean {
    if (connection.handle.inTransaction) return false;
    const { begin } = connection.use(prepareTransactionStatements);
    const deadline = this.#pause > 1 ? 0 : performance.now() + SPIN;
    for (let spins = 1; ; spins++) {
      try {
        begin.run();
        return true;
      } catch (error) {
        if (!isBusy(error)) throw error;
        this.lastBusy = performance.now();
        if (this.lastBusy >= deadline || spins >= MOST_SPINS) return false;
      }
    }
  }

  #run(connection: Connection, entries: readonly Entry[]): void {
    const settle: (() => void)[] = [];
    try {
      finishTransaction(connection, () => {
        for (const { work, resolve, reject } of entries) {
          try {
            const value = inSavepoint(connection, () => work(connection));
            settle.push(() => resolve(value));
          } catch (error) {
            if (!connection.handle.inTransaction) throw error; // SQLite gave the whole transaction up
            settle.push(() => reject(error));
          }
        }
      });
    } catch (error) {
      for (const entry of entries) entry.reject(error);
      return;
    }
    for (const settled of settle) settled();
    this.#committed();
  }
}
