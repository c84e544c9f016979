import type { Clock } from "../clock.ts";
import { type Duration, show, toEpoch, toMilliseconds } from "../duration.ts";
import type { JobEvent } from "../events.ts";
import { assertKnown } from "../options.ts";
import { type Schema, serialize } from "../payload.ts";
import type { AttemptOutcome, Seams } from "../seams.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { isInTransaction } from "../sqlite/transaction.ts";
import type { Tx, TxOption } from "../transaction-option.ts";
import type { Failure } from "./burial.ts";
import { type Claim, Lease } from "./lease.ts";
import {
  ackJobs,
  ackPlainJobs,
  claimExpiry,
  completeJob,
  type Completion,
  type Ending,
  failJob,
  forgetHistory,
  giveBackJob,
  renewClaims,
  retryJob,
  saveProgress,
  snoozeJob,
} from "./operations.ts";
import type { LiveRow } from "./statements.ts";

/** What a job needs of the queue that claimed it. */
export interface JobContext {
  readonly pool: Pool;
  readonly clock: Clock;
  /** Milliseconds to wait after attempt 1, 2, 3 …; throws what the application's function throws. */
  readonly backoff: (attempt: number) => number;
  /** The same for loops, which never throws. */
  readonly loopBackoff: (attempt: number) => number;
  readonly resultSchema: Schema | undefined;
  /** Milliseconds; 0 for ever, null not at all. Where the job itself doesn't say. */
  readonly keepResult: number | null;
  readonly emit: (event: Failure | "job:completed" | "job:unsettled", job: JobEvent) => void;
  readonly seams: Seams;
}

/** How a job was settled. */
type Settling = Failure | "job:completed" | "job:snoozed";

/** A job that is done, and what is kept of it. */
export interface Ack {
  readonly job: Job<unknown>;
  readonly completion: Completion;
}

/** Jobs that were acked, and the ids of those that have left something stored apart. */
export interface Acked {
  readonly jobs: readonly Job<unknown>[];
  readonly withHistory: readonly number[];
}

/** A call of a method of a job. */
export type JobCall =
  | { readonly method: "ack"; readonly result: unknown }
  | { readonly method: "retry"; readonly delay: unknown; readonly error: unknown }
  | { readonly method: "fail"; readonly error: unknown }
  | { readonly method: "snooze"; readonly delay: unknown }
  | { readonly method: "heartbeat"; readonly extend: unknown }
  | { readonly method: "progress"; readonly value: unknown };

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
  /** @internal */
  readonly lease: Lease;
  readonly #context: JobContext;
  readonly #createdAt: number;
  readonly #keepResult: number | null;
  #hasProgress = false;
  /** What it was completed with. */
  #result: unknown;
  /** Jobs that were buried with this one, because they were to run after it. */
  #dependents: JobEvent[] = [];

  /** @internal */
  constructor(row: LiveRow, queue: string, payload: P, claim: Claim, context: JobContext) {
    this.id = row.id;
    this.queue = queue;
    this.payload = payload;
    this.attempt = row.attempts;
    this.maxAttempts = row.max_attempts;
    this.priority = row.priority;
    this.lease = new Lease(context.pool, row.id, queue, claim);
    this.#context = context;
    this.#createdAt = row.created_at;
    this.#keepResult = row.keep_result ?? context.keepResult;
  }

  /** To the second. */
  get enqueuedAt(): Date {
    return new Date(this.#createdAt * 1_000);
  }

  get settled(): boolean {
    return this.lease.settled;
  }

  /** @internal */
  get keepsResult(): boolean {
    return this.#keepResult !== null || this.lease.claim.isRetained;
  }

  /**
   * Aborts when this claim is lost, when the job is cancelled in whatever process, and when the handle is closed;
   * `reason` is an error that says which. Watched while a claim loop holds the job; after `claimBatch` only `heartbeat`
   * and `progress` notice.
   */
  get signal(): AbortSignal {
    return this.lease.signal;
  }

  /**
   * Ends the job as done. `result` is kept if the queue keeps results.
   * @throws ClaimLostError, JobSettledError, PayloadError for a result that cannot be stored, BusyError and the errors of
   *   sending on a transaction.
   */
  ack(options?: { readonly result?: R | undefined; readonly tx?: Tx | undefined }): void {
    assertKnown("ack", options, ACK);
    this.lease.assertUnsettled("ack");
    const { pool, clock } = this.#context;
    const completion = this.completion(options?.result, clock());
    const done = Job.#ack(pool, [{ job: this as Job<unknown>, completion }], options?.tx);
    this.lease.assertHeld("ack", done.length === 1, options?.tx);
    this.lease.settle(options?.tx, true, () => this.#settled("job:completed"));
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
    this.lease.assertUnsettled("retry");
    const error = options?.error;
    this.#end("retry", options?.tx, error, this.#retrying(options?.delay, error));
  }

  /**
   * Buries the job: no further attempts.
   * @throws as `ack`
   */
  fail(error: unknown, options?: TxOption): void {
    assertKnown("fail", options, TX);
    this.lease.assertUnsettled("fail");
    this.#end("fail", options?.tx, error, (connection) => this.failOn(connection, error));
  }

  /**
   * Makes the job due again after `delay`, as if this attempt had not been; with 0 where it stood.
   * @throws as `ack`
   */
  snooze(delay: Duration, options?: TxOption): void {
    assertKnown("snooze", options, TX);
    this.lease.assertUnsettled("snooze");
    const done = this.#context.pool.write(options?.tx, this.#snoozing(delay));
    this.lease.assertHeld("snooze", done, options?.tx);
    this.lease.settle(options?.tx, false, () => this.#settled("job:snoozed"));
  }

  /**
   * Lets the claim hold for `extend` from now (default: its visibility timeout), if it does not hold longer already.
   * Claim loops do this by themselves for the current job.
   * @throws ClaimLostError, JobSettledError, BusyError
   */
  heartbeat(extend?: Duration): void {
    this.lease.assertUnsettled("heartbeat");
    this.lease.assertHeld("heartbeat", this.#context.pool.write(undefined, this.#renewing(extend)));
  }

  /**
   * Stores how far the work has come, any JSON value, for `watch` and `get` in every process. Joins the open
   * `db.transaction`.
   * @throws PayloadError, ClaimLostError, JobSettledError, BusyError
   */
  progress(value: unknown): void {
    this.lease.assertUnsettled("progress");
    this.lease.assertHeld("progress", this.#context.pool.writeAll(undefined, this.#progressing(value)));
    this.#hasProgress = true;
  }

  /**
   * @internal What the methods above do, as a write of the loops, which waits for nobody. Rejects with what they throw.
   */
  async perform(call: JobCall): Promise<void> {
    const { method } = call;
    this.lease.assertUnsettled(method);
    switch (method) {
      case "ack": {
        const job = this as Job<unknown>;
        const completion = this.completion(call.result as R, this.#context.clock());
        const isDone = await this.#writeByLoops((connection) => {
          const { jobs, withHistory } = Job.ackOn(connection, [{ job, completion }]);
          forgetHistory(connection, withHistory);
          return jobs.length === 1;
        });
        this.lease.assertHeld(method, isDone);
        this.settledByLoop("job:completed");
        break;
      }
      case "retry":
      case "fail": {
        const { error } = call;
        const outcome = await this.#writeByLoops(
          method === "retry"
            ? this.#retrying(call.delay as Duration | undefined, error)
            : (connection) => this.failOn(connection, error),
        );
        this.lease.assertHeld(method, outcome !== null);
        this.settledByLoop(outcome ?? undefined, error);
        break;
      }
      case "snooze":
        this.lease.assertHeld(method, await this.#writeByLoops(this.#snoozing(call.delay as Duration)));
        this.settledByLoop("job:snoozed");
        break;
      case "heartbeat":
        this.lease.assertHeld(
          method,
          await this.#writeByLoops(this.#renewing(call.extend as Duration | undefined)),
        );
        break;
      case "progress":
        this.lease.assertHeld(method, await this.#writeByLoops(this.#progressing(call.value)));
        break;
      default:
        call satisfies never;
    }
  }

  #writeByLoops<T>(write: (connection: Connection) => T): Promise<T> {
    return this.#context.pool.loops.write(write);
  }

  // What the methods above write, by what their arguments say.

  #retrying(delay: Duration | undefined, error: unknown): (connection: Connection) => Failure | null {
    const { clock, backoff } = this.#context;
    const wait = delay === undefined ? backoff(this.attempt) : toMilliseconds(delay, "retry: delay");
    const now = clock();
    const due = toEpoch(now + wait, "retry: delay");
    return (connection) =>
      retryJob(connection, this.id, this.#workerId, { due, ...this.#ending(error, now) });
  }

  #snoozing(delay: Duration): (connection: Connection) => boolean {
    const wait = toMilliseconds(delay, "snooze: delay");
    const due = toEpoch(this.#context.clock() + wait, "snooze: delay");
    return (connection) =>
      wait === 0
        ? giveBackJob(connection, this.id, this.#workerId)
        : snoozeJob(connection, this.id, this.#workerId, due);
  }

  #renewing(extend: Duration | undefined): (connection: Connection) => boolean {
    const timeout =
      extend === undefined ? this.lease.claim.visibilityTimeout : toMilliseconds(extend, "heartbeat: extend");
    if (timeout === 0) throw new RangeError(`heartbeat: extend must be more than 0, got ${show(extend)}`);
    const expiry = claimExpiry(this.#context.clock(), timeout);
    return (connection) => renewClaims(connection, [this.id], this.#workerId, expiry).length === 1;
  }

  #progressing(value: unknown): (connection: Connection) => boolean {
    const text = serialize(value, undefined, () => `progress of job ${this.id} of ${this.queue}`);
    return (connection) => saveProgress(connection, this.id, this.#workerId, text);
  }

  /**
   * @internal Acks jobs together. Returns how many of them were still held.
   * @throws as `ack`, before any is acked
   */
  static ackAll({ pool, clock }: JobContext, jobs: readonly Job<unknown>[], tx: Tx | undefined): number {
    const now = clock();
    const acks: Ack[] = [];
    for (const job of new Set(jobs)) {
      job.lease.assertUnsettled("ackBatch");
      acks.push({ job, completion: job.completion(undefined, now) });
    }
    const done = Job.#ack(pool, acks, tx);
    for (const job of done) job.lease.settle(tx, true, () => job.#settled("job:completed"));
    return done.length;
  }

  /** Mostly by one statement, which needs no transaction; jobs with a history that we know of go by several. */
  static #ack(pool: Pool, acks: readonly Ack[], tx: Tx | undefined): readonly Job<unknown>[] {
    const workers = new Set<string>();
    let isOneStatement = true;
    for (const { job } of acks) {
      workers.add(job.#workerId);
      isOneStatement &&= !job.keepsResult && workers.size === 1 && job.attempt === 1 && !job.#hasProgress;
    }
    const write = (connection: Connection): Acked => {
      const acked = Job.ackOn(connection, acks);
      if (!isOneStatement && acked.withHistory.length > 0) forgetHistory(connection, acked.withHistory);
      return acked;
    };
    const { jobs, withHistory } = isOneStatement ? pool.write(tx, write) : pool.writeAll(tx, write);
    if (isOneStatement && withHistory.length > 0) {
      try {
        pool.writeAll(tx, (connection) => forgetHistory(connection, withHistory));
      } catch {} // the jobs are acked, and nothing depends on what is left of them
    }
    return jobs;
  }

  /** @internal Acks jobs on a connection, those of one claim of which nothing is kept by one statement. */
  static ackOn(connection: Connection, acks: readonly Ack[]): Acked {
    const plain = new Map<string, Job<unknown>[]>();
    const jobs: Job<unknown>[] = [];
    const withHistory: number[] = [];
    for (const { job, completion } of acks) {
      if (!job.keepsResult) {
        const held = plain.get(job.#workerId);
        if (held === undefined) plain.set(job.#workerId, [job]);
        else held.push(job);
      } else if (completeJob(connection, job.queue, job.id, job.#workerId, completion)) jobs.push(job);
    }
    for (const [workerId, held] of plain) {
      const ids = held.map(({ id }) => id);
      const isPlain = held.length > 1 && held.every((job) => job.attempt === 1 && !job.#hasProgress);
      if (isPlain && isInTransaction(connection.handle) && ackPlainJobs(connection, ids, workerId)) {
        jobs.push(...held);
        continue;
      }
      const rows = ackJobs(connection, ids, workerId);
      for (const { id, has_history } of rows) if (has_history === 1) withHistory.push(id);
      if (rows.length === held.length) jobs.push(...held);
      else {
        const acked = new Set(rows.map(({ id }) => id));
        jobs.push(...held.filter(({ id }) => acked.has(id)));
      }
    }
    return { jobs, withHistory };
  }

  /** @internal Ends the attempt on a loop's connection. Null when the claim is lost. */
  retryOn(connection: Connection, error: unknown): Failure | null {
    const { clock, loopBackoff } = this.#context;
    const now = clock();
    const due = Math.ceil(now + loopBackoff(this.attempt));
    return retryJob(connection, this.id, this.#workerId, { due, ...this.#ending(error, now) });
  }

  /** @internal Buries the job on a loop's connection. Null when the claim is lost. */
  failOn(connection: Connection, error: unknown): Failure | null {
    return failJob(connection, this.id, this.#workerId, this.#ending(error, this.#context.clock()));
  }

  /** @internal Makes the job claimable again on a loop's connection, without using the attempt. False when the claim is lost. */
  giveBackOn(connection: Connection): boolean {
    return giveBackJob(connection, this.id, this.#workerId);
  }

  /** @internal A loop's write, which is committed, has settled the job. */
  settledByLoop(outcome: Settling | undefined, error?: unknown): void {
    this.lease.settleCommitted();
    if (outcome !== undefined) this.#settled(outcome, error);
  }

  /** @internal Renews claims on a loop's connection. Returns the jobs whose claims are lost. */
  static renewOn(connection: Connection, jobs: readonly Job<unknown>[], now: number): Job<unknown>[] {
    return [...Map.groupBy(jobs, (job) => job.#workerId)].flatMap(([workerId, held]) => {
      const expiry = claimExpiry(now, held[0]?.lease.claim.visibilityTimeout ?? 0);
      const ids = held.map(({ id }) => id);
      const renewed = new Set(renewClaims(connection, ids, workerId, expiry));
      return held.filter(({ id }) => !renewed.has(id));
    });
  }

  get #workerId(): string {
    return this.lease.claim.workerId;
  }

  /**
   * @internal What an ack now stores.
   * @throws PayloadError for a result that cannot be stored
   */
  completion(result: R | undefined, now: number): Completion {
    const { resultSchema } = this.#context;
    this.#result = result;
    const text =
      !this.keepsResult || result === undefined
        ? null
        : serialize(result, resultSchema, () => `result of job ${this.id} of ${this.queue}`);
    const { isRetained, now: startedAt } = this.lease.claim;
    return { result: text, keep: this.#keepResult, isRetained, startedAt, now };
  }

  #end(
    call: string,
    tx: Tx | undefined,
    error: unknown,
    write: (connection: Connection) => Failure | null,
  ): void {
    const { pool } = this.#context;
    const outcome = pool.writeAll(tx, write);
    this.lease.assertHeld(call, outcome !== null, tx);
    this.lease.settle(tx, false, () => {
      if (outcome !== null) this.#settled(outcome, error);
    });
  }

  #ending(error: unknown, now: number): Ending {
    this.#dependents = []; // what was written before has not been committed
    return {
      error,
      now,
      onSwept: (_, { id, queue, attempts }, why) =>
        void this.#dependents.push({ id, queue, attempt: attempts, error: why }),
    };
  }

  /** It is, for good. */
  #settled(how: Settling, error?: unknown): void {
    const { id, queue, attempt } = this;
    const { emit, seams } = this.#context;
    if (how !== "job:snoozed") {
      emit(how, { id, queue, attempt, ...(error === undefined ? {} : { error }) });
      for (const job of this.#dependents) emit("job:dead", job);
    }
    for (const tell of seams.ended) {
      const outcome = how.slice("job:".length) as AttemptOutcome;
      tell({ job: this, outcome, error, result: outcome === "completed" ? this.#result : undefined });
    }
  }
}
