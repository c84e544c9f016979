import { z } from "zod";

import { type Clock, toUnixSeconds } from "../clock.ts";
import { type Duration, show, toMilliseconds } from "../duration.ts";
import { PayloadError } from "../errors.ts";
import { assertName, duration, readOptions, signal } from "../options.ts";
import { deserialize, type Schema, serialize } from "../payload.ts";
import type { SignalOption } from "../signal.ts";
import type { Source } from "../source.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { type Backoff, backoff, readBackoff } from "./backoff.ts";
import { type ClaimHost, type ClaimLoop, ClaimSource } from "./claim-source.ts";
import { type EnqueueOptions, readEnqueueOptions, readMaxAttempts } from "./enqueue-options.ts";
import { Job, type JobContext } from "./job.ts";
import { type Claim, claimJobs, failJob, retryJob, sweepQueue } from "./operations.ts";
import type { ReadyFeed } from "./ready-feed.ts";
import { prepareQueueStatements } from "./statements.ts";

export interface QueueOptions {
  /** How often a job is tried; stored with the job. Default 3. */
  readonly maxAttempts?: number | undefined;
  /**
   * How long a claim holds without being renewed, from the claim on; then the job may be claimed by somebody else.
   * Rounded up to a whole second. Default `"5m"`.
   */
  readonly visibilityTimeout?: Duration | undefined;
  /** How long a job waits after a failed attempt. Default exponential from 5 s, at most 1 h, jitter 0.2. */
  readonly backoff?: Backoff | ((attempt: number) => Duration) | undefined;
}

export interface ClaimOptions extends SignalOption {
  /** Default: the queue's. */
  readonly visibilityTimeout?: Duration | undefined;
  /** A label for people who read the table; not an identity. Default: the process id. */
  readonly worker?: string | undefined;
}

const QUEUE_OPTIONS = z.strictObject({
  schema: z
    .custom<Schema>(
      (value) => typeof (value as Schema | null)?.["~standard"]?.validate === "function",
      "must be a Standard Schema",
    )
    .optional(),
  maxAttempts: z.number().optional(),
  visibilityTimeout: duration.optional(),
  backoff: backoff.optional(),
});

const CLAIM_OPTIONS = z.strictObject({
  signal: signal.optional(),
  visibilityTimeout: duration.optional(),
  worker: z.string().optional(),
}) as z.ZodType<ClaimOptions>;

/** Unreadable jobs that a loop buries in one turn: some milliseconds of work. */
const BURIED_AT_ONCE = 100;

/** What all queues of a honkbun handle share. */
export interface QueueContext {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly feed: ReadyFeed;
  /** Claim loops that are running, to be ended with the handle. */
  readonly loops: Set<ClaimLoop>;
  readonly report: (error: unknown, where: string) => void;
  /** Unique in all processes, for ever. */
  nonce(): string;
}

/** A named queue of jobs. Handles are cheap; the options belong to the handle, not to the name. */
export class Queue<In, Out = In> {
  readonly name: string;
  readonly #context: QueueContext;
  readonly #schema: Schema | undefined;
  readonly #maxAttempts: number;
  readonly #visibilityTimeout: number;
  readonly #jobContext: JobContext;
  /** The second in which this handle last found nothing more to free. Expiries are whole seconds. */
  #sweptAt = -1;

  /** @internal */
  constructor(
    context: QueueContext,
    name: string,
    options: (QueueOptions & { readonly schema?: Schema }) | undefined,
  ) {
    assertName(name, "queue: name");
    const read = readOptions("queue", QUEUE_OPTIONS, options);
    this.name = name;
    this.#context = context;
    this.#schema = read.schema;
    this.#maxAttempts = readMaxAttempts(read.maxAttempts ?? 3, "queue: maxAttempts");
    this.#visibilityTimeout = readVisibility(read.visibilityTimeout ?? "5m", "queue");
    this.#jobContext = {
      pool: context.pool,
      clock: context.clock,
      backoff: readBackoff(read.backoff, "queue"),
    };
  }

  /**
   * Stores a job and returns its id: on the open `db.transaction`, on `tx`, or committed by itself.
   * @throws PayloadError, TypeError, RangeError for what cannot be stored; BusyError, TransactionRequiredError,
   *   AmbiguousTransactionError
   */
  enqueue(payload: In, options?: EnqueueOptions): number {
    const { pool, clock } = this.#context;
    const now = clock();
    const text = serialize(payload, this.#schema, `enqueue to ${this.name}`);
    const { due, priority, maxAttempts, expiresAt } = readEnqueueOptions(options, this.#maxAttempts, now);
    const { lastInsertRowid } = pool.write(options?.tx, (connection) =>
      connection
        .use(prepareQueueStatements)
        .insert.run(
          this.name,
          text,
          priority,
          toUnixSeconds(due),
          due,
          maxAttempts,
          toUnixSeconds(now),
          expiresAt,
        ),
    );
    return Number(lastInsertRowid);
  }

  /**
   * Claims jobs one at a time, as they come due, for a `for await` loop. The loop's body settles each; one that it leaves
   * unsettled by `break` or by throwing is retried. Ends by `signal` and by `db.close()`.
   */
  claim(options?: ClaimOptions): Source<Job<Out>>;
  claim(worker: string, options?: ClaimOptions): Source<Job<Out>>;
  claim(workerOrOptions?: string | ClaimOptions, more?: ClaimOptions): Source<Job<Out>> {
    const terms = readClaimOptions("claim", workerOrOptions, more);
    const { loops } = this.#context;
    const source = new ClaimSource<Out>(this.#claimHost(terms), terms.signal);
    if (!terms.signal?.aborted) loops.add(source);
    return source;
  }

  /**
   * Claims up to `count` jobs that are due now, in claim order: priority (high first), due time, id. Joins the open
   * `db.transaction`.
   * @throws BusyError, AmbiguousTransactionError
   */
  claimBatch(count: number, options?: ClaimOptions): Job<Out>[];
  claimBatch(worker: string, count: number, options?: ClaimOptions): Job<Out>[];
  claimBatch(
    workerOrCount: string | number,
    countOrOptions?: number | ClaimOptions,
    more?: ClaimOptions,
  ): Job<Out>[] {
    const isNamed = typeof workerOrCount === "string";
    const count = (isNamed ? countOrOptions : workerOrCount) as number;
    const terms = readClaimOptions(
      "claimBatch",
      isNamed ? workerOrCount : (countOrOptions as ClaimOptions | undefined),
      more,
    );
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new RangeError(`claimBatch: count must be an integer of 1 or more, got ${show(count)}`);
    }
    return this.#context.pool.writeAll(undefined, (connection) => this.#claimOn(connection, count, terms));
  }

  #claimHost(terms: ClaimTerms): ClaimHost<Out> {
    const { pool, feed, loops, report } = this.#context;
    const abandoned = new Error("the claim loop's body ended without settling the job");
    const quietly = async (write: Promise<unknown>): Promise<void> => {
      try {
        await write;
      } catch (error) {
        if (!pool.isClosed) throw error; // closing has given the job back already
      }
    };
    return {
      name: this.name,
      feed,
      claimNext: async () =>
        (await pool.loops.write((connection) => this.#claimOn(connection, 1, terms, BURIED_AT_ONCE)))[0] ??
        null,
      retryUnsettled: (job) => quietly(pool.loops.write((connection) => job.retryOn(connection, abandoned))),
      giveBack: (job) => quietly(pool.loops.write((connection) => job.giveBackOn(connection))),
      ended: (loop) => void loops.delete(loop),
      report,
    };
  }

  /** `maxBuried`: a loop leaves the rest of unreadable jobs to its next turn. */
  #claimOn(
    connection: Connection,
    count: number,
    terms: ClaimTerms,
    maxBuried = Number.POSITIVE_INFINITY,
  ): Job<Out>[] {
    const { clock, nonce } = this.#context;
    const now = clock();
    const claim = {
      queue: this.name,
      count,
      workerId: `${terms.label}~${nonce()}`,
      visibilityTimeout: terms.visibilityTimeout ?? this.#visibilityTimeout,
      now,
    };
    // Expiries are whole seconds: looking once in each finds all. What is found meanwhile is found when there is no more.
    const isSwept = toUnixSeconds(now) === this.#sweptAt;
    if (!isSwept) this.#sweep(connection, now);
    const jobs = this.#claimReadable(connection, claim, maxBuried);
    if (jobs.length > 0 || !isSwept) return jobs;
    this.#sweep(connection, now);
    return this.#claimReadable(connection, claim, maxBuried);
  }

  /** Claims until there are `count` jobs whose payloads can be read; the others are buried. */
  #claimReadable(connection: Connection, claim: Claim, maxBuried: number): Job<Out>[] {
    const { count, workerId, now } = claim;
    const jobs: Job<Out>[] = [];
    for (let buried = 0; ;) {
      const rows = claimJobs(connection, { ...claim, count: count - jobs.length });
      for (const row of rows) {
        try {
          const payload = deserialize(row.payload, this.#schema, `job ${row.id} of ${this.name}`) as Out;
          jobs.push(new Job(row, payload, workerId, this.#jobContext));
        } catch (error) {
          // Nobody can run it as it is; the others go on. Where the schema itself fails, or turns asynchronous, the
          // payload may be well: that is a failed attempt.
          if (error instanceof PayloadError) failJob(connection, row.id, workerId, { error, now });
          else {
            const due = Math.ceil(now + this.#jobContext.backoff(row.attempts));
            retryJob(connection, row.id, workerId, { due, error, now });
          }
          buried++;
        }
      }
      if (jobs.length === count || rows.length === 0 || buried >= maxBuried) return jobs;
    }
  }

  #sweep(connection: Connection, now: number): void {
    if (sweepQueue(connection, this.name, now)) this.#sweptAt = toUnixSeconds(now);
  }
}

/** Read when the call is made: a loop that claims in the background could only report what is wrong. */
interface ClaimTerms {
  readonly signal: AbortSignal | undefined;
  readonly label: string | number;
  /** Milliseconds; undefined for the queue's. */
  readonly visibilityTimeout: number | undefined;
}

function readClaimOptions(
  call: string,
  workerOrOptions: string | ClaimOptions | undefined,
  more: ClaimOptions | undefined,
): ClaimTerms {
  const isNamed = typeof workerOrOptions === "string";
  const options = readOptions(call, CLAIM_OPTIONS, isNamed ? more : workerOrOptions);
  return {
    signal: options.signal,
    label: isNamed ? workerOrOptions : (options.worker ?? process.pid),
    visibilityTimeout:
      options.visibilityTimeout === undefined ? undefined : readVisibility(options.visibilityTimeout, call),
  };
}

function readVisibility(value: Duration, call: string): number {
  const milliseconds = toMilliseconds(value, `${call}: visibilityTimeout`);
  if (milliseconds > 0) return milliseconds;
  throw new RangeError(`${call}: visibilityTimeout must be more than 0, got ${show(value)}`);
}
