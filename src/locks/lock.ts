import type { Duration } from "../duration.ts";
import { LockLostError, TransactionRequiredError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Tx } from "../transaction-option.ts";
import type { LockHost } from "./lock-host.ts";
import { readTtl } from "./lock-options.ts";
import { type Claimant, giveUp, prepareLockStatements, renewLock, tryRelease } from "./statements.ts";

/** A lock that is held. `using` releases it at the end of the block. */
export class Lock implements Disposable {
  readonly name: string;
  /** The fencing token: larger than that of any acquisition of this lock before. */
  readonly token: number;
  readonly #host: LockHost;
  readonly #owner: string;
  #ttl: number;
  #abort: AbortController | undefined;
  #lost: Error | undefined;
  #isReleased = false;

  /** @internal */
  constructor(host: LockHost, { name, owner, ttl }: Claimant, token: number) {
    this.name = name;
    this.token = token;
    this.#host = host;
    this.#owner = owner;
    this.#ttl = ttl;
  }

  /** Aborts when the lock is lost: it expired and somebody else took it, or the handle was closed. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#lost !== undefined) this.#abort.abort(this.#lost);
    return this.#abort.signal;
  }

  /**
   * Lets the lock hold for `ttl` from now on, by default as long as when it was taken, and renews it at that pace. It is
   * renewed by itself, but not while the event loop is blocked. Joins the open `db.transaction`.
   * @throws LockLostError, TypeError, RangeError, BusyError, AmbiguousTransactionError
   */
  renew(ttl?: Duration): void {
    const seconds = ttl === undefined ? this.#ttl : readTtl(ttl, "renew");
    this.#assertHeld("renew");
    const { pool, clock } = this.#host;
    const claimant = { ...this.claimant, ttl: seconds };
    if (!pool.write(undefined, (connection) => renewLock(connection, claimant, clock()))) {
      const error = this.lostError("renew");
      pool.onEnd({ committed: () => this.lose(error) });
      throw error;
    }
    this.#ttl = seconds;
    this.#host.renewed(this);
  }

  /**
   * Frees the lock: the first who waits for it has it then. Joins the open `db.transaction`, and is undone by its rollback. Does
   * nothing when the lock was released or lost. When the write lock cannot be had, it is freed as soon as it can.
   */
  release(): void {
    if (this.#isReleased || this.#lost !== undefined) return;
    const { pool, clock } = this.#host;
    const { claimant } = this;
    this.#isReleased = true;
    this.#host.released(this);
    try {
      const isFree = pool.write(undefined, (connection) => tryRelease(connection, claimant));
      if (!isFree) pool.writeAll(undefined, (connection) => giveUp(connection, claimant, clock()));
    } catch (error) {
      if (pool.isClosed) return;
      void this.#host.releaseSoon(this);
      if (pool.writer.inTransaction) throw error; // which has failed as a whole
      return;
    }
    pool.onEnd({
      rolledBack: () => {
        this.#isReleased = false;
        this.#host.renewed(this);
      },
    });
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /**
   * Makes sure, within a transaction, that the lock is held until its commit: what is written together with this check cannot be
   * a stale holder's. In `db.transaction`, or on `tx`.
   * @throws LockLostError when it is held no longer; TransactionRequiredError outside a transaction
   */
  guard(tx?: Tx): void {
    const { pool } = this.#host;
    if (tx === undefined && !pool.writer.inTransaction) {
      throw new TransactionRequiredError(
        "guard: a lock is guarded within a transaction: call it in db.transaction, or pass the handle that is inside one",
      );
    }
    this.#assertHeld("guard");
    if (!pool.write(tx, (connection) => this.isHeldOn(connection))) throw this.lostError("guard");
  }

  /** @internal Whether it is held, on a connection that is inside a transaction. */
  isHeldOn(connection: Connection): boolean {
    return connection.use(prepareLockStatements).holder.get(this.name)?.owner === this.#owner;
  }

  /** @internal */
  get claimant(): Claimant {
    return { name: this.name, owner: this.#owner, ttl: this.#ttl };
  }

  /** @internal Whether it is held as far as is known here. */
  get isHeld(): boolean {
    return !this.#isReleased && this.#lost === undefined;
  }

  /** @internal The same as `release`, without waiting for the write lock; never rejects. */
  releaseSoon(): Promise<void> {
    this.#isReleased = true;
    this.#host.released(this);
    return this.#host.releaseSoon(this);
  }

  /** @internal Why it is lost, if it is. */
  get lost(): Error | undefined {
    return this.#lost;
  }

  /** @internal */
  lose(reason: Error): void {
    if (!this.isHeld) return;
    this.#lost = reason;
    this.#host.released(this);
    this.#abort?.abort(reason);
  }

  /** @internal */
  lostError(call: string): LockLostError {
    return new LockLostError(`${call}: the lock ${this.name} is lost: it expired, and somebody else took it`);
  }

  #assertHeld(call: string): void {
    if (this.#isReleased) throw new LockLostError(`${call}: the lock ${this.name} was released`);
    if (this.#lost !== undefined) throw this.lostError(call);
  }
}
