import { Database } from "bun:sqlite";
import { statSync } from "node:fs";

import { TransactionRequiredError } from "../errors.ts";
import { Connection } from "./connection.ts";
import { pathOf } from "./open-file.ts";
import { isInTransaction } from "./transaction.ts";

const LONGEST_PAUSE = 16;

/** Handles of the application that sends join by `{ tx }`. Nobody tells us when their transactions end, so we look. */
export class ForeignHandles {
  readonly #path: string | null;
  readonly #connections = new WeakMap<Database, Connection>();
  readonly #watched = new Map<Database, (() => void)[]>();

  /**
   * `path`: of the database that the handles must be on; null for one in memory, which no other handle can be on.
   * `own`: the connection of ours which the application may begin transactions on.
   */
  constructor(path: string | null, own: Connection) {
    this.#path = path;
    this.#connections.set(own.handle, own);
  }

  /** @throws TypeError for what is no handle; TransactionRequiredError for one without a transaction on this database. */
  join(tx: Database): Connection {
    if (!(tx instanceof Database)) {
      throw new TypeError(
        "tx must be a bun:sqlite Database inside a transaction (with Drizzle: orm.$client, not its tx)",
      );
    }
    if (!isInTransaction(tx)) {
      throw new TransactionRequiredError("tx is not inside a transaction; begin one on it, or leave tx out");
    }
    let connection = this.#connections.get(tx);
    if (connection === undefined) {
      if (!this.#isSameFile(pathOf(tx))) {
        throw new TransactionRequiredError(
          `tx is on another database than this honkbun handle: ${tx.filename}`,
        );
      }
      connection = new Connection(tx, false);
      this.#connections.set(tx, connection);
    }
    return connection;
  }

  /** Calls `listener` soon after the handle's transaction has ended, one way or the other. */
  whenEnded(tx: Database, listener: () => void): void {
    const watching = this.#watched.get(tx);
    if (watching !== undefined) {
      watching.push(listener);
      return;
    }
    this.#watched.set(tx, [listener]);
    let pause = 0.5;
    const look = (): void => {
      if (isInTransaction(tx)) {
        pause = Math.min(pause * 2, LONGEST_PAUSE);
        setTimeout(look, pause).unref();
        return;
      }
      const listeners = this.#watched.get(tx) ?? [];
      this.#watched.delete(tx);
      for (const ended of listeners) ended();
    };
    // Most end with the tick: the first look must not come later than that.
    setImmediate(look);
  }

  #isSameFile(path: string | null): boolean {
    if (path === null || this.#path === null) return false;
    if (path === this.#path) return true;
    const [theirs, ours] = [
      statSync(path, { throwIfNoEntry: false }),
      statSync(this.#path, { throwIfNoEntry: false }),
    ];
    return theirs !== undefined && theirs.ino === ours?.ino && theirs.dev === ours.dev;
  }
}
