import type { Clock } from "../clock.ts";
import { type Duration, show, toEpoch, toMilliseconds } from "../duration.ts";
import { ClaimLostError, JobSettledError } from "../errors.ts";
import type { JobEvent } from "../events.ts";
import { assertKnown } from "../options.ts";
import { type Schema, serialize } from "../payload.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Tx, TxOption } from "../transaction-option.ts";
import {
  ackJob,
  ackJobs,
  claimExpiry,
  type Completion,
  failJob,
  type Failure,
  giveBackJob,
  renewClaim,
  retryJob,
  saveProgress,
  snoozeJob,
} from "./operations.ts";
import { type LiveRow, prepareQueueStatements } from "./statements.ts";

/** What a job needs of the queue that claimed it. */
export interface JobContext {
  readonly pool: Pool;
  readonly clock: Clock;
  /** Milliseconds to wait after attempt 1, 2, 3 …. */
  readonly backoff: (attempt: number) => number;
  readonly resultSchema: Schema | undefined;
  /** Milliseconds; 0 for ever, null not at all. Where the job itself doesn't say. */
  readonly keepResult: number | null;
  readonly emit: (event: Failure | "job:completed" | "job:unsettled", job: JobEvent) => void;
}

/** The claim by which a job is held. */
export interface Hold {
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  /** When it was claimed, in epoch milliseconds. */
  readonly now: number;
}

const TX = new Set(["tx"]);
const ACK = new Set(["tx", "result"]);
const RETRY = new Set(["tx", "delay", "error"]);

/**
 * A claimed job. It is settled once, by `ack`, `retry`, `fail` or `snooze`: at once and synchronously, on the open
 * `db.transaction` or on `tx`; when that rolls back, the job is unsettled again.
 */
export class Job<P, R = unknown> {
  readonly id: number;
  readonly queue: string;
  readonly payload: P;
  /** The number of this attempt, from 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  /** To the second. */
  readonly enqueuedAt: Date;
  readonly #context: JobContext;
  readonly #hold: Hold;
  readonly #keepResult: number | null;
  #hasHistory: boolean;
  /** In seconds, as far as this process knows. */
  #expiry: number;
  #settled = false;
  /** Settled on a transaction of another handle, which has not ended yet. */
  #undecided = false;
  #onReleased: (() => void) | undefined;
  #abort: AbortController | undefined;
  #lost: Error | undefined;

  /** @internal */
  constructor(row: LiveRow, payload: P, hold: Hold, context: JobContext) {
    this.id = row.id;
    this.queue = row.queue;
    this.payload = payload;
    this.attempt = row.attempts;
    this.maxAttempts = row.max_attempts;
    this.priority = row.priority;
    this.enqueuedAt = new Date(row.created_at * 1_000);
    this.#context = context;
    this.#hold = hold;
    this.#keepResult = row.keep_result ?? context.keepResult;
    this.#hasHistory = row.has_history !== 0;
    this.#expiry = claimExpiry(hold.now, hold.visibilityTimeout);
  }

  get settled(): boolean {
    return this.#settled;
  }

  /**
   * Aborts when this claim is lost, when the job is cancelled in whatever process, and when the handle is closed;
   * `reason` is an error that says which. Watched while a claim loop holds the job; after `claimBatch` only `heartbeat`
   * and `progress` notice.
   */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#lost !== undefined) this.#abort.abort(this.#lost);
    return this.#abort.signal;
  }

  /**
   * Ends the job as done. `result` is kept if the queue keeps results.
   * @throws ClaimLostError, JobSettledError, PayloadError for a result that cannot be stored, BusyError and the errors of
   *   sending on a transaction.
   */
  ack(options?: { readonly result?: R | undefined; readonly tx?: Tx | undefined }): void {
    assertKnown("ack", options, ACK);
    this.#assertUnsettled("ack");
    const completion = this.#completion(options?.result);
    const write = (connection: Connection): boolean =>
      ackJob(connection, this.id, this.#hold.workerId, completion);
    const { pool } = this.#context;
    const done = leavesNothing(completion)
      ? pool.write(options?.tx, write)
      : pool.writeAll(options?.tx, write);
    this.#settle("ack", done, options?.tx, () => this.#emit("job:completed"));
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
    assertKnown("retry", options, RETRY);
    this.#assertUnsettled("retry");
    const { pool, clock, backoff } = this.#context;
    const delay =
      options?.delay === undefined ? backoff(this.attempt) : toMilliseconds(options.delay, "retry: delay");
    const now = clock();
    const due = toEpoch(now + delay, "retry: delay");
    const error = options?.error;
    const outcome = pool.writeAll(options?.tx, (connection) =>
      retryJob(connection, this.id, this.#hold.workerId, { due, error, now }),
    );
    this.#settle("retry", outcome !== null, options?.tx, () => this.#emit(outcome, error));
  }

  /**
   * Buries the job: no further attempts.
   * @throws as `ack`
   */
  fail(error: unknown, options?: TxOption): void {
    assertKnown("fail", options, TX);
    this.#assertUnsettled("fail");
    const { pool, clock } = this.#context;
    const outcome = pool.writeAll(options?.tx, (connection) =>
      failJob(connection, this.id, this.#hold.workerId, { error, now: clock() }),
    );
    this.#settle("fail", outcome !== null, options?.tx, () => this.#emit(outcome, error));
  }

  /**
   * Makes the job due again after `delay`, as if this attempt had not been; with 0 where it stood.
   * @throws as `ack`
   */
  snooze(delay: Duration, options?: TxOption): void {
    assertKnown("snooze", options, TX);
    this.#assertUnsettled("snooze");
    const { pool, clock } = this.#context;
    const wait = toMilliseconds(delay, "snooze: delay");
    const due = toEpoch(clock() + wait, "snooze: delay");
    const done = pool.write(options?.tx, (connection) =>
      wait === 0
        ? giveBackJob(connection, this.id, this.#hold.workerId)
        : snoozeJob(connection, this.id, this.#hold.workerId, due),
    );
    this.#settle("snooze", done, options?.tx, () => {});
  }

  /**
   * Lets the claim hold for `extend` from now (default: its visibility timeout), if it does not hold longer already.
   * Claim loops do this by themselves for the current job.
   * @throws ClaimLostError, JobSettledError, BusyError
   */
  heartbeat(extend?: Duration): void {
    this.#assertUnsettled("heartbeat");
    const { pool, clock } = this.#context;
    const timeout =
      extend === undefined ? this.#hold.visibilityTimeout : toMilliseconds(extend, "heartbeat: extend");
    if (timeout === 0) throw new RangeError(`heartbeat: extend must be more than 0, got ${show(extend)}`);
    const expiry = claimExpiry(clock(), timeout);
    const done = pool.write(undefined, (connection) =>
      renewClaim(connection, this.id, this.#hold.workerId, expiry),
    );
    this.#assertHeld("heartbeat", done);
    this.#expiry = Math.max(this.#expiry, expiry);
  }

  /**
   * Stores how far the work has come, any JSON value, for `watch` and `get` in every process. Joins the open
   * `db.transaction`.
   * @throws PayloadError, ClaimLostError, JobSettledError, BusyError
   */
  progress(value: unknown): void {
    this.#assertUnsettled("progress");
    const text = serialize(value, undefined, `progress of job ${this.id} of ${this.queue}`);
    const done = this.#context.pool.write(undefined, (connection) =>
      saveProgress(connection, this.id, this.#hold.workerId, text),
    );
    this.#assertHeld("progress", done);
    this.#hasHistory = true;
  }

  /**
   * @internal Acks jobs together. Returns how many of them were still held.
   * @throws as `ack`, before any is acked
   */
  static ackAll(pool: Pool, jobs: readonly Job<unknown>[], tx: Tx | undefined): number {
    for (const job of jobs) job.#assertUnsettled("ackBatch");
    const completions = new Map(jobs.map((job) => [job, job.#completion(undefined)]));
    const [singly, plain] = [[] as [Job<unknown>, Completion][], [] as Job<unknown>[]];
    for (const [job, completion] of completions) {
      if (leavesNothing(completion)) plain.push(job);
      else singly.push([job, completion]);
    }
    const byClaim = Map.groupBy(plain, (job) => job.#hold.workerId);
    const write = (connection: Connection): Job<unknown>[] => {
      const done: Job<unknown>[] = [];
      for (const [job, completion] of singly) {
        if (ackJob(connection, job.id, job.#hold.workerId, completion)) done.push(job);
      }
      for (const [workerId, held] of byClaim) {
        const ids = held.map(({ id }) => id);
        const acked = new Set(ackJobs(connection, ids, workerId));
        done.push(...held.filter(({ id }) => acked.has(id)));
      }
      return done;
    };
    const isOneStatement = singly.length === 0 && byClaim.size === 1;
    const done = isOneStatement ? pool.write(tx, write) : pool.writeAll(tx, write);
    for (const job of done) job.#settle("ackBatch", true, tx, () => job.#emit("job:completed"));
    return done.length;
  }

  /** @internal Whether the claim may have to be given up: not settled, or by a transaction that may yet roll back. */
  get mayBeHeld(): boolean {
    return this.#lost === undefined && (!this.#settled || this.#undecided);
  }

  /** @internal Milliseconds for which the claim holds unless it is renewed. */
  get visibilityTimeout(): number {
    return this.#hold.visibilityTimeout;
  }

  /** @internal Calls `listener` once the claim needs no more care: the job is settled for good, or lost. */
  onReleased(listener: () => void): void {
    this.#onReleased = listener;
  }

  /** @internal Ends the attempt on a loop's connection: the loop's body left the job unsettled. */
  retryOn(connection: Connection, error: Error): Failure | null {
    const { clock, backoff } = this.#context;
    const now = clock();
    const due = Math.ceil(now + backoff(this.attempt));
    return retryJob(connection, this.id, this.#hold.workerId, { due, error, now });
  }

  /** @internal Makes the job claimable again on a loop's connection, without using the attempt. */
  giveBackOn(connection: Connection): void {
    giveBackJob(connection, this.id, this.#hold.workerId);
  }

  /** @internal Renews the claim on a loop's connection. False when it is lost. */
  renewOn(connection: Connection): boolean {
    const expiry = claimExpiry(this.#context.clock(), this.#hold.visibilityTimeout);
    this.#expiry = Math.max(this.#expiry, expiry);
    return renewClaim(connection, this.id, this.#hold.workerId, expiry);
  }

  /** @internal The claim is gone, and whoever works on the job is to know. */
  lose(reason: Error): void {
    if (this.#settled || this.#lost !== undefined) return;
    this.#lost = reason;
    this.#abort?.abort(reason);
    this.#onReleased?.();
  }

  /** @internal */
  lostError(call: string): ClaimLostError {
    return new ClaimLostError(
      `${call}: the claim on job ${this.id} of ${this.queue} is lost: it was taken over, cancelled or buried`,
    );
  }

  #completion(result: R | undefined): Completion {
    const { clock, resultSchema } = this.#context;
    const keep = this.#keepResult;
    const now = clock();
    const text =
      keep === null || result === undefined
        ? null
        : serialize(result, resultSchema, `result of job ${this.id} of ${this.queue}`);
    // Once its time was over, somebody may have noted that the claim expired.
    return { result: text, keep, hasHistory: this.#hasHistory || now >= this.#expiry * 1_000, now };
  }

  #assertUnsettled(call: string): void {
    if (this.#settled)
      throw new JobSettledError(`${call}: job ${this.id} of ${this.queue} was settled before`);
  }

  #assertHeld(call: string, isHeld: boolean): void {
    if (isHeld) return;
    const error = this.lostError(call);
    this.lose(error);
    throw error;
  }

  #settle(call: string, done: boolean, tx: Tx | undefined, report: () => void): void {
    this.#assertHeld(call, done);
    const { pool } = this.#context;
    this.#settled = true;
    const committed = (): void => {
      this.#onReleased?.();
      report();
    };
    if (pool.isOwn(tx)) {
      const rolledBack = (): void => {
        this.#settled = false;
      };
      pool.onEnd({ committed, rolledBack });
      return;
    }
    // How a transaction on another handle has ended only the row can tell.
    this.#undecided = true;
    pool.whenEnded(tx, () => {
      this.#undecided = false;
      this.#settled = !pool.readCommitted(
        (connection) =>
          connection.use(prepareQueueStatements).held.get(this.id, this.#hold.workerId) !== null,
      );
      if (this.#settled) committed();
    });
  }

  #emit(event: Failure | "job:completed" | null, error?: unknown): void {
    if (event === null) return;
    const { id, queue, attempt } = this;
    this.#context.emit(event, { id, queue, attempt, ...(error === undefined ? {} : { error }) });
  }
}

/** Whether an ack is nothing but the removal of the row. */
function leavesNothing({ keep, hasHistory }: Completion): boolean {
  return keep === null && !hasHistory;
}
