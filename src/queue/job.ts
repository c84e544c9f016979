import type { Clock } from "../clock.ts";
import { type Duration, toEpoch, toMilliseconds } from "../duration.ts";
import { ClaimLostError, JobSettledError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Tx, TxOption } from "../transaction-option.ts";
import { ackJob, failJob, giveBackJob, retryJob } from "./operations.ts";
import { type LiveRow, prepareQueueStatements } from "./statements.ts";

/** What a job needs of the queue that claimed it. */
export interface JobContext {
  readonly pool: Pool;
  readonly clock: Clock;
  /** Milliseconds to wait after attempt 1, 2, 3 …. */
  readonly backoff: (attempt: number) => number;
}

/**
 * A claimed job. It is settled once, by `ack`, `retry` or `fail`: at once and synchronously, on the open `db.transaction`
 * or on `tx`; when that rolls back, the job is unsettled again.
 */
export class Job<P> {
  readonly id: number;
  readonly queue: string;
  readonly payload: P;
  /** The number of this attempt, from 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  /** To the second. */
  readonly enqueuedAt: Date;
  /** The claim's identity. */
  readonly #workerId: string;
  readonly #context: JobContext;
  #settled = false;
  /** Settled on a transaction of another handle, which has not ended yet. */
  #undecided = false;

  constructor(row: LiveRow, payload: P, workerId: string, context: JobContext) {
    this.id = row.id;
    this.queue = row.queue;
    this.payload = payload;
    this.attempt = row.attempts;
    this.maxAttempts = row.max_attempts;
    this.priority = row.priority;
    this.enqueuedAt = new Date(row.created_at * 1_000);
    this.#workerId = workerId;
    this.#context = context;
  }

  get settled(): boolean {
    return this.#settled;
  }

  /**
   * Ends the job as done.
   * @throws ClaimLostError, JobSettledError, BusyError and the errors of sending on a transaction.
   */
  ack(options?: TxOption): void {
    this.#assertUnsettled("ack");
    const done = this.#context.pool.write(options?.tx, (connection) =>
      ackJob(connection, this.id, this.#workerId),
    );
    this.#settle("ack", done, options?.tx);
  }

  /**
   * Ends this attempt. The job becomes due again after `delay` (default: the queue's backoff), or is buried when this was
   * its last attempt. `error` is kept with the job.
   * @throws as `ack`
   */
  retry(options?: {
    readonly delay?: Duration | undefined;
    readonly error?: unknown;
    readonly tx?: Tx | undefined;
  }): void {
    this.#assertUnsettled("retry");
    const { pool, clock, backoff } = this.#context;
    const delay =
      options?.delay === undefined ? backoff(this.attempt) : toMilliseconds(options.delay, "retry: delay");
    const now = clock();
    const due = toEpoch(now + delay, "retry: delay");
    const done = pool.writeAll(options?.tx, (connection) =>
      retryJob(connection, this.id, this.#workerId, { due, error: options?.error, now }),
    );
    this.#settle("retry", done, options?.tx);
  }

  /**
   * Buries the job: no further attempts.
   * @throws as `ack`
   */
  fail(error: unknown, options?: TxOption): void {
    this.#assertUnsettled("fail");
    const { pool, clock } = this.#context;
    const done = pool.writeAll(options?.tx, (connection) =>
      failJob(connection, this.id, this.#workerId, { error, now: clock() }),
    );
    this.#settle("fail", done, options?.tx);
  }

  /** @internal Whether the claim may have to be given up: not settled, or by a transaction that may yet roll back. */
  get mayBeHeld(): boolean {
    return !this.#settled || this.#undecided;
  }

  /** @internal Ends the attempt on a loop's connection: the loop's body left the job unsettled. */
  retryOn(connection: Connection, error: Error): void {
    const { clock, backoff } = this.#context;
    const now = clock();
    retryJob(connection, this.id, this.#workerId, {
      due: Math.ceil(now + backoff(this.attempt)),
      error,
      now,
    });
  }

  /** @internal Makes the job claimable again on a loop's connection, without using the attempt. */
  giveBackOn(connection: Connection): void {
    giveBackJob(connection, this.id, this.#workerId);
  }

  #assertUnsettled(call: string): void {
    if (this.#settled)
      throw new JobSettledError(`${call}: job ${this.id} of ${this.queue} was settled before`);
  }

  #settle(call: string, done: boolean, tx: Tx | undefined): void {
    const { pool } = this.#context;
    if (!done) {
      throw new ClaimLostError(
        `${call}: the claim on job ${this.id} of ${this.queue} is lost: it was taken over, cancelled or buried`,
      );
    }
    this.#settled = true;
    if (pool.isOwn(tx)) {
      pool.onEnd({
        rolledBack: () => {
          this.#settled = false;
        },
      });
      return;
    }
    // How a transaction on another handle has ended only the row can tell.
    this.#undecided = true;
    pool.whenEnded(tx, () => {
      this.#undecided = false;
      this.#settled = !pool.readCommitted(
        (connection) => connection.use(prepareQueueStatements).held.get(this.id, this.#workerId) !== null,
      );
    });
  }
}
