import { ClaimLostError, JobSettledError } from "../errors.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Tx } from "../transaction-option.ts";
import { claimExpiry } from "./operations.ts";
import { prepareQueueStatements } from "./statements.ts";

/** What the jobs of one claim have in common. */
export interface Claim {
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  /** When it was made, in epoch milliseconds. */
  readonly now: number;
}

export interface LeaseListener {
  /** The claim needs no more care: the job is settled for good, or lost. */
  released(): void;
  /** The job was settled on a transaction of another handle, which was rolled back. */
  reverted(): void;
}

/** The hold that a claim has on one job: until when, whether the job is settled, and whether it was lost. */
export class Lease {
  readonly claim: Claim;
  readonly #pool: Pool;
  readonly #id: number;
  readonly #queue: string;
  /** In seconds, as far as this process knows. */
  #expiry: number;
  #settled = false;
  /** Settled on a transaction of another handle, which has not ended yet. */
  #undecided = false;
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
    this.#expiry = claimExpiry(claim.now, claim.visibilityTimeout);
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** Whether the claim may have to be given up: not settled, or by a transaction that may yet roll back. */
  get mayBeHeld(): boolean {
    return !this.#isLost && (!this.#settled || this.#undecided);
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

  /** Whether the job is settled on a transaction of another handle, which may yet roll back. */
  get isUndecided(): boolean {
    return this.#undecided;
  }

  /** Whether somebody may by now have noted that the claim expired. */
  mayHaveExpired(now: number): boolean {
    return now >= this.#expiry * 1_000;
  }

  renewed(expiry: number): void {
    this.#expiry = Math.max(this.#expiry, expiry);
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
    if (this.#settled)
      throw new JobSettledError(`${call}: job ${this.#id} of ${this.#queue} was settled before`);
  }

  /** @throws ClaimLostError when a write has found the claim gone. */
  assertHeld(call: string, isHeld: boolean): void {
    if (isHeld) return;
    const error = this.lostError(call);
    this.lose(error);
    throw error;
  }

  /** The claim is gone, and whoever works on the job is to know. */
  lose(reason: Error): void {
    if (this.#settled || this.#isLost) return;
    this.#isLost = true;
    this.abort(reason);
    this.#listener?.released();
  }

  lostError(call: string): ClaimLostError {
    return new ClaimLostError(
      `${call}: the claim on job ${this.#id} of ${this.#queue} is lost: it was taken over, cancelled or buried`,
    );
  }

  /**
   * Their jobs were settled together, by a write with this `tx`; if that is rolled back, they are unsettled again. Calls
   * `committed` once it cannot be, for each that is settled for good.
   */
  static settle(
    pool: Pool,
    leases: readonly Lease[],
    tx: Tx | undefined,
    committed: (index: number) => void,
  ): void {
    for (const lease of leases) lease.#settled = true;
    const release = (lease: Lease, index: number): void => {
      lease.#listener?.released();
      committed(index);
    };
    if (pool.isOwn(tx)) {
      pool.onEnd({
        committed: () => leases.forEach(release),
        rolledBack: () => {
          for (const lease of leases) lease.#settled = false;
        },
      });
      return;
    }
    // How a transaction on another handle has ended only the rows can tell.
    for (const lease of leases) lease.#undecided = true;
    pool.whenEnded(tx, () => {
      for (const [index, lease] of leases.entries()) {
        lease.#undecided = false;
        lease.#settled = !lease.#isStored();
        if (lease.#settled) release(lease, index);
        else lease.#listener?.reverted();
      }
    });
  }

  #isStored(): boolean {
    return this.#pool.readCommitted(
      (connection) => connection.use(prepareQueueStatements).held.get(this.#id, this.claim.workerId) !== null,
    );
  }
}
