import { ClaimLostError, JobSettledError } from "../errors.ts";
import type { Pool } from "../sqlite/pool.ts";
import { isInTransaction } from "../sqlite/transaction.ts";
import type { Tx } from "../transaction-option.ts";
import { prepareQueueStatements } from "./statements.ts";

/** What the jobs of one claim have in common. */
export interface Claim {
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  /** When it was made, in epoch milliseconds. */
  readonly now: number;
  /** Whether the queue keeps completed jobs, and their results. */
  readonly isRetained: boolean;
}

export interface LeaseListener {
  /** The claim needs no more care: the job is settled for good, or lost. */
  released(): void;
  /** The job was settled by a transaction that has ended otherwise, and is still ours. */
  reverted(): void;
}

/** A settling whose transaction has not ended. */
interface Undecided {
  /** The application's handle that it is on. */
  readonly tx: Tx;
  readonly isAck: boolean;
  readonly committed: () => void;
}

/** The hold that a claim has on one job: whether the job is settled, and whether it was lost. */
export class Lease {
  readonly claim: Claim;
  /** When a loop is to renew the claim, in epoch milliseconds. Infinity: never, or no more. */
  renewAt: number = Number.POSITIVE_INFINITY;
  readonly #pool: Pool;
  readonly #id: number;
  readonly #queue: string;
  #settled = false;
  #undecided: Undecided | undefined;
  #listener: LeaseListener | undefined;
  #abort: AbortController | undefined;
  /** Why the signal is aborted. */
  #reason: Error | undefined;
  #isLost = false;

  constructor(pool: Pool, id: number, queue: string, claim: Claim) {
    this.#pool = pool;
    this.#id = id;
    this.#queue = queue;
    this.claim = claim;
  }

  get settled(): boolean {
    this.#decideIfEnded();
    return this.#settled;
  }

  /** Whether the claim may have to be given up: not settled, or by a transaction that may yet roll back. */
  get mayBeHeld(): boolean {
    return !this.#isLost && (!this.settled || this.#undecided !== undefined);
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#reason !== undefined) this.#abort.abort(this.#reason);
    return this.#abort.signal;
  }

  /** Why the job's signal is aborted, if it is. */
  get reason(): Error | undefined {
    return this.#reason;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /** Whether the job is settled by a transaction that may yet roll back. */
  get isUndecided(): boolean {
    this.#decideIfEnded();
    return this.#undecided !== undefined;
  }

  /** Whoever looks after the claim. */
  watchedBy(listener: LeaseListener): void {
    this.#listener = listener;
  }

  /** Whoever works on the job is to stop; the claim still holds it. */
  abort(reason: Error): void {
    this.#reason ??= reason;
    this.#abort?.abort(this.#reason);
  }

  assertUnsettled(call: string): void {
    if (this.settled)
      throw new JobSettledError(`${call}: job ${this.#id} of ${this.#queue} was settled before`);
  }

  /** @throws ClaimLostError when a write with this `tx` has found the claim gone. */
  assertHeld(call: string, isHeld: boolean, tx?: Tx): void {
    if (isHeld) return;
    const error = this.lostError(call);
    // What took it away may be the open transaction, and roll back.
    if (this.#pool.isOwn(tx)) this.#pool.onEnd({ committed: () => this.lose(error) });
    throw error;
  }

  /** The claim is gone, and whoever works on the job is to know. */
  lose(reason: Error): void {
    if (this.#settled || this.#isLost) return;
    this.#isLost = true;
    this.renewAt = Number.POSITIVE_INFINITY;
    this.abort(reason);
    this.#listener?.released();
  }

  lostError(call: string): ClaimLostError {
    return new ClaimLostError(
      `${call}: the claim on job ${this.#id} of ${this.#queue} is lost: it was taken over, cancelled or buried`,
    );
  }

  /** The job was settled by a write that is committed. */
  settleCommitted(): void {
    this.#settled = true;
    this.renewAt = Number.POSITIVE_INFINITY;
    this.#listener?.released();
  }

  /**
   * The job was settled by a write with this `tx`; if that is undone, it is unsettled again. Calls `committed` once it
   * cannot be.
   */
  settle(tx: Tx | undefined, isAck: boolean, committed: () => void): void {
    const pool = this.#pool;
    this.#settled = true;
    const release = (): void => {
      this.settleCommitted();
      committed();
    };
    if (tx === undefined && !pool.writer.inTransaction) {
      release();
      return;
    }
    // Which savepoints of the application's are undone, and how the transaction of another handle ends, the row tells.
    const handle = tx ?? pool.writer.connection.handle;
    const undecided: Undecided = { tx: handle, isAck, committed: release };
    this.#undecided = undecided;
    const decide = (): void => {
      if (this.#undecided === undecided) this.#decide();
    };
    if (!pool.isOwn(tx)) pool.whenEnded(tx, decide);
    else {
      pool.onEnd({
        committed: decide,
        rolledBack: () => {
          this.#undecided = undefined;
          this.#settled = false;
        },
      });
    }
  }

  #decideIfEnded(): void {
    if (this.#undecided !== undefined && !isInTransaction(this.#undecided.tx)) this.#decide();
  }

  #decide(): void {
    const undecided = this.#undecided;
    if (undecided === undefined) return;
    this.#undecided = undefined;
    this.#settled = false;
    try {
      const row = this.#pool.readCommitted((connection) =>
        connection.use(prepareQueueStatements).holder.get(this.#id),
      );
      if (row?.worker_id === this.claim.workerId) {
        this.#listener?.reverted();
        return;
      }
      // One that was made due again may have its next holder already; after an ack that is another's job.
      this.#settled = row === null || !undecided.isAck;
    } catch (error) {
      this.lose(error as Error); // nobody can tell any more
      return;
    }
    if (this.#settled) undecided.committed();
    else this.lose(this.lostError("ack"));
  }
}
