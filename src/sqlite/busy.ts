import { SQLiteError } from "bun:sqlite";

import { BusyError } from "../errors.ts";

const BUSY = 5;
const BUSY_SNAPSHOT = 517;
const SPIN = 1;
const NAP = 0.1;
/** Where the clock stands still, as under fake timers, spinning ends after so many attempts, and naps are what is counted. */
const MOST_SPINS = 2_000;
/** How often a long wait asks who holds the lock, and for how long the answer must stay "we do, and nothing moves". */
const HOLDER_CHECK = 25;
const STUCK_AFTER = 1_000;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

export function isBusy(error: unknown): error is SQLiteError {
  return error instanceof SQLiteError && (error.errno & 0xff) === BUSY;
}

/** Tells whether a transaction of this very thread holds the write lock, as far as we know, and which commit came last. */
export interface LockHolder {
  isThisThread(): boolean;
  lastCommit(): number;
}

/**
 * Waits for the write lock on behalf of a synchronous call. SQLite's own busy handler sleeps up to 100 ms and lets late
 * comers pass; trying again and again is fair enough that nobody waits long beside saturated writers.
 */
export class LockWait {
  readonly #timeout: number;
  readonly #holder: LockHolder | undefined;

  constructor(timeout: number, holder?: LockHolder) {
    this.#timeout = timeout;
    this.#holder = holder;
  }

  /**
   * Runs `attempt`, again while the lock is taken.
   * @throws BusyError after `busyTimeout`, or as soon as waiting is known to be in vain.
   */
  run<T>(attempt: () => T): T {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error)) throw error;
      return this.#retry(attempt, error);
    }
  }

  #retry<T>(attempt: () => T, first: SQLiteError): T {
    const start = performance.now();
    const stuck = new StuckHere(this.#holder);
    let error = first;
    let naps = 0;
    for (let spins = 0; ; spins++) {
      if (error.errno === BUSY_SNAPSHOT) {
        throw new BusyError(
          "the transaction began with a read, and another connection has written since: begin it with BEGIN IMMEDIATE",
          { cause: error },
        );
      }
      const waited = Math.max(performance.now() - start, naps * NAP);
      if (waited >= this.#timeout) {
        throw new BusyError(
          `the write lock was not free within ${this.#timeout} ms (busyTimeout). ` +
            "If another handle of this process holds it, send on that handle with { tx }",
          { cause: error },
        );
      }
      if (stuck.since(waited)) {
        throw new BusyError(
          "another handle of this process has been inside a write transaction for a second. Unless it is another " +
            "thread's, it cannot end while this call waits: send on that handle with { tx }, or use db.sqlite for both",
          { cause: error },
        );
      }
      if (waited > SPIN || spins > MOST_SPINS) {
        Atomics.wait(sleeper, 0, 0, NAP);
        naps++;
      }
      try {
        return attempt();
      } catch (next) {
        if (!isBusy(next)) throw next;
        error = next;
      }
    }
  }
}

/** Notices that the lock which we wait for is held on this thread, so that it can never be freed meanwhile. */
class StuckHere {
  readonly #holder: LockHolder | undefined;
  #checkAt = HOLDER_CHECK;
  #heldSince = Number.POSITIVE_INFINITY;
  #commit = 0;

  constructor(holder: LockHolder | undefined) {
    this.#holder = holder;
  }

  since(waited: number): boolean {
    if (this.#holder === undefined || waited < this.#checkAt) return false;
    this.#checkAt = waited + HOLDER_CHECK;
    if (!this.#holder.isThisThread()) {
      this.#heldSince = Number.POSITIVE_INFINITY;
      return false;
    }
    // A thread of this process that commits now and then does free the lock: only a standstill counts.
    const commit = this.#holder.lastCommit();
    if (this.#heldSince === Number.POSITIVE_INFINITY || commit !== this.#commit) {
      this.#heldSince = waited;
      this.#commit = commit;
    }
    return waited - this.#heldSince >= STUCK_AFTER;
  }
}
