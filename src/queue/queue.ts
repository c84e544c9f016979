import { z } from "zod";

import { type Instant, show, toEpoch } from "../duration.ts";
import { AmbiguousTransactionError } from "../errors.ts";
import { assertKnown, assertName, readOptions, readPage, signal } from "../options.ts";
import { deserialize, type Schema, serialize } from "../payload.ts";
import type { SignalOption } from "../signal.ts";
import type { Source } from "../source.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Tx, TxOption } from "../transaction-option.ts";
import { readWaitOptions, type WaitOptions } from "../wait-options.ts";
import { buryDependents, collectSwept, type OnSwept, type Swept } from "./burial.ts";
import { cancelJob, clearQueue, updateJob } from "./changes.ts";
import { claimHost } from "./claim-host.ts";
import { ClaimSource } from "./claim-source.ts";
import { type Claimed, Claiming, settleUnreadable } from "./claiming.ts";
import { DeadLetters } from "./dead-letters.ts";
import { type EnqueueOptions, type JobTerms, readEnqueueOptions, readPriority } from "./enqueue-options.ts";
import { insertJob, insertJobs, tryInsertJob } from "./insertion.ts";
import { type Counts, Inspection, isJobState } from "./inspection.ts";
import { IsolatedLane } from "./isolated/isolated-lane.ts";
import type { JobInfo, JobState } from "./job-info.ts";
import { Job, type JobContext } from "./job.ts";
import type { Lane } from "./lane.ts";
import type { Claim } from "./lease.ts";
import { type Limits, readLimits, setLimits, setPaused } from "./limits.ts";
import { type Inserted, type NewJob, newJob } from "./new-job.ts";
import { CLAIM_VISIBILITY, jobContext, type QueueContext, WORK_VISIBILITY } from "./queue-context.ts";
import { type ClaimOptions, type ClaimTerms, type QueueTerms, readClaimOptions } from "./queue-options.ts";
import { type ResultHost, waitResult } from "./result.ts";
import type { LiveRow } from "./statements.ts";
import { JobWatch } from "./watch.ts";
import { readWorkOptions, type Worker, type WorkOptions, type WorkTerms } from "./work-options.ts";
import { QueueWorker } from "./worker.ts";

const TX = new Set(["tx"]);
const CHANGES = new Set(["payload", "runAt", "priority"]);
const LIST = new Set(["state", "limit", "after"]);
const WATCH = z.strictObject({ signal: signal.optional() });

/** A named queue of jobs. Handles are cheap; the options belong to the handle, not to the name. */
export class Queue<In, Out = In, R = unknown> {
  readonly name: string;
  /** Jobs that were buried. */
  readonly dead: DeadLetters<Out>;
  readonly #context: QueueContext;
  readonly #terms: QueueTerms;
  readonly #jobs: JobContext;
  readonly #claiming: Claiming<Job<Out, R>>;
  readonly #inspection: Inspection<Out, R>;
  /** Of the latest job without options: those of one moment are stored together. */
  #plain: MomentTerms | undefined;

  /** @internal */
  constructor(context: QueueContext, name: string, terms: QueueTerms) {
    assertName(name, "queue: name");
    this.name = name;
    this.#context = context;
    this.#terms = terms;
    this.#jobs = jobContext(context, name, terms);
    const { pool, clock } = context;
    const { schema } = terms;
    this.#claiming = new Claiming(name, this.#jobs, (row, claim) => {
      const payload = deserialize(row.payload, schema, () => `job ${row.id} of ${name}`) as Out;
      return new Job<Out, R>(row, name, payload, claim, this.#jobs);
    });
    this.#inspection = new Inspection(pool, clock, name, this.#terms);
    this.dead = new DeadLetters({ pool, clock, queue: name, ...this.#terms });
  }

  /**
   * Stores a job and returns its id: on the open `db.transaction`, on `tx`, or committed by itself. With a `uniqueKey` that is
   * taken, returns the id of the job that has it.
   * @throws PayloadError, TypeError, RangeError for what cannot be stored; DuplicateJobError; BusyError,
   *   TransactionRequiredError, AmbiguousTransactionError
   */
  enqueue(payload: In, options?: EnqueueOptions): number {
    return this.#insert(this.#newJob(payload, options, "enqueue"), options?.tx).id;
  }

  /**
   * The same for a job with a unique key, and says whether it was created, or another one has the key.
   * @throws as `enqueue`
   */
  tryEnqueue(
    payload: In,
    options: EnqueueOptions & { readonly uniqueKey: string },
  ): { readonly id: number; readonly created: boolean } {
    if (options?.uniqueKey === undefined) throw new TypeError("tryEnqueue: uniqueKey must be given");
    return this.#insert(this.#newJob(payload, options, "tryEnqueue"), options.tx);
  }

  /**
   * Stores many jobs in one transaction: all or none. Returns their ids in the order of the payloads. The options are for
   * all, or given by a function for each, which then cannot name different transactions.
   * @throws as `enqueue`, before anything is written
   */
  enqueueMany(
    payloads: Iterable<In>,
    options?: EnqueueOptions | ((payload: In, index: number) => EnqueueOptions),
  ): number[] {
    if (typeof (payloads as Iterable<In> | null)?.[Symbol.iterator] !== "function") {
      throw new TypeError(`enqueueMany: payloads must be iterable, got ${show(payloads)}`);
    }
    const jobs: NewJob[] = [];
    let tx = typeof options === "function" ? undefined : options?.tx;
    const all = typeof options === "function" ? undefined : this.#readTerms(options, "enqueueMany");
    for (const payload of payloads) {
      const own = typeof options === "function" ? options(payload, jobs.length) : options;
      jobs.push(this.#newJob(payload, own, "enqueueMany", jobs.length, all));
      if (jobs.length === 1) tx = own?.tx;
      else if (own?.tx !== tx) {
        throw new TypeError("enqueueMany: tx must be the same for all payloads, which share one transaction");
      }
    }
    if (jobs.length === 0) return [];
    return this.#writeSweeping(tx, (connection, onSwept) => insertJobs(connection, jobs, onSwept));
  }

  /**
   * Stores a job in a transaction that all calls of this tick share, without waiting for the write lock; resolves with its
   * id once that is committed, however long the lock is taken. For servers that enqueue many at once. Never joins a transaction.
   * @throws AmbiguousTransactionError inside `db.transaction`, which the job could not join. Rejects like `enqueue` throws,
   *   but never with BusyError.
   */
  enqueueAsync(payload: In, options?: Omit<EnqueueOptions, "tx">): Promise<number> {
    const { pool, insertion } = this.#context;
    if (pool.writer.inTransaction) {
      throw new AmbiguousTransactionError(
        "enqueueAsync commits in a transaction of its own and cannot join db.transaction; call enqueue",
      );
    }
    return Promise.try(() => {
      if (typeof options === "object" && options !== null && "tx" in options) {
        throw new TypeError("enqueueAsync: tx is not taken: it never joins a transaction; call enqueue");
      }
      return insertion.insert(this.#newJob(payload, options, "enqueueAsync"));
    });
  }

  /**
   * Gives jobs one by one, each claimed when it is asked for and due; keeps the process alive. The claim of the current job
   * is renewed until it is settled or the next one is asked for. One that is left unsettled by `break` or by throwing is
   * retried. Ends by `signal` and by `db.close()`.
   */
  claim(options?: ClaimOptions): Source<Job<Out, R>>;
  claim(worker: string, options?: ClaimOptions): Source<Job<Out, R>>;
  claim(workerOrOptions?: string | ClaimOptions, more?: ClaimOptions): Source<Job<Out, R>> {
    const terms = readClaimOptions("claim", workerOrOptions, more);
    return new ClaimSource<Out, R>(
      claimHost(this.#context, this.name, this.#claiming, (connection) =>
        this.#claimOn(connection, 1 + terms.prefetch, 1, terms, false),
      ),
      terms.signal,
    );
  }

  /**
   * Claims up to `count` jobs that are due now, in claim order: priority (high first), due time, id. Their claims are not
   * renewed but by `job.heartbeat()`. Joins the open `db.transaction`.
   * @throws BusyError, AmbiguousTransactionError
   */
  claimBatch(count: number, options?: ClaimOptions): Job<Out, R>[];
  claimBatch(worker: string, count: number, options?: ClaimOptions): Job<Out, R>[];
  claimBatch(
    workerOrCount: string | number,
    countOrOptions?: number | ClaimOptions,
    more?: ClaimOptions,
  ): Job<Out, R>[] {
    const isNamed = typeof workerOrCount === "string";
    const count = (isNamed ? countOrOptions : workerOrCount) as number;
    const terms = readClaimOptions(
      "claimBatch",
      isNamed ? workerOrCount : (countOrOptions as ClaimOptions | undefined),
      more,
    );
    if (terms.prefetch > 0) throw new TypeError("claimBatch: prefetch is for claim; give a larger count");
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new RangeError(`claimBatch: count must be an integer of 1 or more, got ${show(count)}`);
    }
    const { pool } = this.#context;
    const jobs: Job<Out, R>[] = [];
    const reports: (() => void)[] = [];
    pool.writeAll(undefined, (connection) => {
      while (jobs.length < count) {
        const left = count - jobs.length;
        const { claim, rows, report } = this.#claimOn(connection, left, left, terms, true);
        reports.push(report);
        for (const row of rows) {
          const { job, ...read } = this.#claiming.read(row, claim);
          if (!("unreadable" in read)) jobs.push(job);
          else {
            const outcome = settleUnreadable(connection, job, read.unreadable);
            if (outcome !== null) reports.push(() => job.settledByLoop(outcome, read.unreadable));
          }
        }
        if (rows.length === 0) break;
      }
    });
    pool.onEnd({
      committed: () => {
        for (const report of reports) report();
      },
    });
    return jobs;
  }

  /**
   * Acks jobs together. Returns how many were acked: those whose claims were lost are not, and stay unsettled. Joins the
   * open `db.transaction`, or `tx`.
   * @throws JobSettledError when one was settled before, and none is acked; BusyError and the errors of sending
   */
  ackBatch(jobs: readonly Job<Out, R>[], options?: TxOption): number {
    assertKnown("ackBatch", options, TX);
    if (!Array.isArray(jobs) || ![...jobs].every((job) => job instanceof Job)) {
      throw new TypeError(`ackBatch: jobs must be an array of jobs, got ${show(jobs)}`);
    }
    return jobs.length === 0 ? 0 : Job.ackAll(this.#jobs, jobs, options?.tx);
  }

  /**
   * Runs each job by `handler`, so many at once; keeps the process alive until it is stopped. What the handler returns is
   * the job's result; what it throws ends the attempt, which is retried, or with `UnrecoverableError` not. `job.ack`,
   * `retry`, `fail` and `snooze` win over both. Claims are renewed for as long as handlers run.
   *
   * A URL names a module whose default export is the handler. It runs in threads, where it may block without blocking this
   * one, and from where a `timeout` ends it whatever it does.
   * @throws TypeError, RangeError
   */
  work(handler: ((job: Job<Out, R>) => R | Promise<R>) | URL, options?: WorkOptions): Worker {
    const isModule = handler instanceof URL;
    if (isModule ? handler.protocol !== "file:" : typeof handler !== "function") {
      throw new TypeError(
        `work: handler must be a function, or the file: URL of a module, got ${show(handler)}`,
      );
    }
    const work = readWorkOptions(options);
    return new QueueWorker(this.#context, [this.lane(handler, work)], work);
  }

  /** @internal What a worker with these terms does with the queue's jobs. */
  lane(handler: ((job: Job<Out, R>) => unknown) | URL, work: WorkTerms): Lane<Job<Out, R>> {
    const { timeout, label } = work;
    const terms: ClaimTerms = {
      signal: undefined,
      label,
      visibilityTimeout: this.#terms.visibilityTimeout ?? WORK_VISIBILITY,
      prefetch: 0,
    };
    const base = {
      queue: this.name,
      claim: (connection: Connection, count: number, startable: number) =>
        this.#claimOn(connection, count, startable, terms, false),
      read: (row: LiveRow, claim: Claim) => this.#claiming.read(row, claim),
      timeout: () => timeout,
    };
    if (!(handler instanceof URL)) return { ...base, run: handler };
    return new IsolatedLane(base, handler, {
      alarms: this.#context.alarms,
      concurrency: work.concurrency,
      report: (error) => this.#context.report(error, `worker of ${this.name}`),
    });
  }

  /**
   * What is known of a job of this queue, or null: also of one that is dead, of a completed one that is kept, and for a day
   * of one that was cancelled.
   */
  get(id: number): JobInfo<Out, R> | null {
    return this.#inspection.get(readId("get", id));
  }

  /**
   * Jobs in the order of ids: at most `limit` (default 100), those `after` an id. Without `state`, those of every state.
   * @throws TypeError, RangeError
   */
  list(options?: {
    readonly state?: JobState | undefined;
    readonly limit?: number | undefined;
    readonly after?: number | undefined;
  }): JobInfo<Out, R>[] {
    assertKnown("list", options, LIST);
    const { state, ...page } = options ?? {};
    if (state !== undefined && !isJobState(state)) {
      throw new TypeError(`list: there is no state ${show(state)}`);
    }
    const { after, limit } = readPage("list", page);
    return this.#inspection.list(state, after, limit);
  }

  /**
   * Changes a job that is not claimed; `runAt: Date.now()` makes it ready. False when there is no such job. Joins the open
   * `db.transaction`, or `tx`.
   * @throws PayloadError, TypeError, RangeError, BusyError and the errors of sending
   */
  update(
    id: number,
    changes: {
      readonly payload?: In | undefined;
      readonly runAt?: Instant | undefined;
      readonly priority?: number | undefined;
    },
    options?: TxOption,
  ): boolean {
    readId("update", id);
    if (changes === undefined) throw new TypeError("update: changes must be an object, got undefined");
    assertKnown("update", changes, CHANGES);
    assertKnown("update", options, TX);
    const { payload, runAt, priority } = changes;
    const stored = {
      payload:
        payload === undefined
          ? null
          : serialize(payload, this.#terms.schema, () => `update of job ${id} of ${this.name}`),
      due: runAt === undefined ? null : toEpoch(runAt, "update: runAt"),
      priority: priority === undefined ? null : readPriority(priority, "update"),
    };
    return this.#context.pool.write(options?.tx, (connection) =>
      updateJob(connection, this.name, id, stored),
    );
  }

  /**
   * Ends a job that has not ended yet. If a worker has claimed it, its `job.signal` aborts and it can no longer settle the
   * job. False when there is no such job. Joins the open `db.transaction`, or `tx`.
   * @throws BusyError and the errors of sending
   */
  cancel(id: number, options?: TxOption): boolean {
    readId("cancel", id);
    assertKnown("cancel", options, TX);
    const now = this.#context.clock();
    return this.#writeSweeping(options?.tx, (connection, onSwept) =>
      cancelJob(connection, this.name, id, now, onSwept),
    );
  }

  /**
   * Yields what a job is now, and what it is after each change of its state or progress, in whatever process; ends once
   * the job has ended, and at once for a job of which nothing is known. A loop that is slower than the changes gets the latest.
   */
  watch(id: number, options?: SignalOption): Source<JobInfo<Out, R>> {
    readId("watch", id);
    const read = readOptions("watch", WATCH, options);
    return new JobWatch(this.#context.watches, id, () => this.#inspection.getCommitted(id), read.signal);
  }

  /**
   * Resolves with a job's result: what `job.ack` was given, or a handler has returned, in whatever process; at once when
   * the job has ended already. Works where results are kept (`keepResult`).
   * @throws JobFailedError with the errors of all attempts, JobCancelledError, JobExpiredError; ResultNotKeptError, at once,
   *   when there is nothing to wait for; WaitTimeoutError; `signal.reason`; RangeError for an id that was never given
   */
  async waitResult(id: number, options?: WaitOptions): Promise<R> {
    readId("waitResult", id);
    const { pool, clock, alarms, watches, seams } = this.#context;
    const { resultSchema, keepResult } = this.#terms;
    const host: ResultHost<R> = {
      pool,
      clock,
      alarms,
      queue: this.name,
      resultSchema: resultSchema as Schema<unknown, R> | undefined,
      mayBeKept: keepResult !== null,
      watch: (watched) =>
        new JobWatch(watches, watched, () => this.#inspection.getCommitted(watched), undefined),
      bury: (connection, now) => void buryDependents(connection, now, () => {}),
    };
    const terms = readWaitOptions("waitResult", options);
    return seams.wait(() => waitResult(host, id, terms));
  }

  /** How many jobs there are of each state: completed ones as far as they are kept. */
  counts(): Counts {
    return this.#inspection.counts();
  }

  /** For how long the oldest ready job has been ready, in milliseconds; 0 when there is none. */
  latency(): number {
    return this.#inspection.latency();
  }

  /** Lets no process claim jobs of this queue any more; those that are claimed go on. Stored in the file. */
  pause(): void {
    this.#context.pool.writeAll(undefined, (connection) => setPaused(connection, this.name, true));
  }

  /** Ends a `pause`, whoever called it. */
  resume(): void {
    this.#context.pool.writeAll(undefined, (connection) => setPaused(connection, this.name, false));
  }

  /**
   * Limits the queue, for every worker of every process: how many of its jobs run, and are started in a time, and what is kept of
   * those that have ended. Stored in the file; what is not named stays as it is, and the last call wins. Joins the open
   * `db.transaction`.
   * @throws TypeError, RangeError, BusyError
   */
  setLimits(limits: Limits): void {
    const terms = readLimits(limits);
    const { pool, clock } = this.#context;
    const now = clock();
    pool.writeAll(undefined, (connection) => setLimits(connection, this.name, terms, now));
  }

  /** Cancels every job that is not claimed. Returns how many there were. Joins the open `db.transaction`. */
  clear(): number {
    const now = this.#context.clock();
    return this.#writeSweeping(undefined, (connection, onSwept) =>
      clearQueue(connection, this.name, now, onSwept),
    );
  }

  #insert(job: NewJob, tx: Tx | undefined): Inserted {
    const id = this.#context.pool.write(tx, (connection) => tryInsertJob(connection, job));
    if (id !== null) return { id, created: true };
    return this.#writeSweeping(tx, (connection, onSwept) => insertJob(connection, job, onSwept));
  }

  /** A write that may bury jobs which depend on others; they are told of once it is committed. */
  #writeSweeping<T>(tx: Tx | undefined, write: (connection: Connection, onSwept: OnSwept) => T): T {
    const { pool, emit } = this.#context;
    const { list, onSwept } = collectSwept();
    const result = pool.writeAll(tx, (connection) => write(connection, onSwept));
    if (list.length === 0) return result;
    const report = (): void => list.forEach(({ event, job }) => void emit(event, job));
    if (pool.isOwn(tx)) pool.onEnd({ committed: report });
    else {
      // How that transaction has ended, the rows tell.
      const [{ job }] = list as readonly [Swept];
      pool.whenEnded(tx, () => {
        if (this.#inspection.getCommitted(job.id)?.state === "dead") report();
      });
    }
    return result;
  }

  /** @internal */
  get context(): QueueContext {
    return this.#context;
  }

  /** @internal A job as `enqueue` would store it now; `call` names it in errors. */
  draft(payload: In, options: EnqueueOptions | undefined, call: string): NewJob {
    return this.#newJob(payload, options, call);
  }

  /** `index` is that of one of many, for which `all` was read already where it is for all. */
  #newJob(
    payload: In,
    options: EnqueueOptions | undefined,
    call: string,
    index?: number,
    all?: MomentTerms,
  ): NewJob {
    const { schema, keepResult } = this.#terms;
    try {
      const { terms, now } = all ?? this.#readTerms(options, call);
      const text = serialize(payload, schema, () => `${call} to ${this.name}`);
      return newJob(this.name, text, terms, keepResult, now);
    } catch (error) {
      if (index !== undefined && error instanceof Error) error.message += ` (payload ${index})`;
      throw error;
    }
  }

  #readTerms(options: EnqueueOptions | undefined, call: string): MomentTerms {
    const now = this.#context.clock();
    if (options === undefined && this.#plain?.now === now) return this.#plain;
    const read = { terms: readEnqueueOptions(options, this.#terms.maxAttempts, now, call), now };
    if (options === undefined) this.#plain = read;
    return read;
  }

  #claimOn(
    connection: Connection,
    count: number,
    startable: number,
    terms: ClaimTerms,
    isPatient: boolean,
  ): Claimed {
    return this.#claiming.claim(connection, {
      count,
      startable,
      workerId: this.#context.liveness.holder(connection, terms.label),
      visibilityTimeout: terms.visibilityTimeout ?? this.#terms.visibilityTimeout ?? CLAIM_VISIBILITY,
      isPatient,
    });
  }
}

/** How a job is stored that is enqueued at a moment, in epoch milliseconds. */
interface MomentTerms {
  readonly terms: JobTerms;
  readonly now: number;
}

function readId(call: string, id: number): number {
  if (Number.isSafeInteger(id) && id >= 0) return id;
  throw new TypeError(`${call}: id must be a job's id, got ${show(id)}`);
}
