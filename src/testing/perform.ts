import { show } from "../duration.ts";
import { ClosedError } from "../errors.ts";
import { deserialize, serialize } from "../payload.ts";
import type { Claimed, Read } from "../queue/claiming.ts";
import { insertJob } from "../queue/insertion.ts";
import type { Job } from "../queue/job.ts";
import type { Lane } from "../queue/lane.ts";
import type { Claim } from "../queue/lease.ts";
import type { NewJob } from "../queue/new-job.ts";
import { claimExpiry } from "../queue/operations.ts";
import { type QueueContext, WORK_VISIBILITY } from "../queue/queue-context.ts";
import type { LiveRow } from "../queue/statements.ts";
import { readWorkOptions } from "../queue/work-options.ts";
import { QueueWorker } from "../queue/worker.ts";
import type { Attempt } from "../seams.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { TaskJob } from "../task/task-job.ts";
import { type KnownTask, TaskLane } from "../task/task-lane.ts";
import { Task } from "../task/task.ts";
import { forgetRecorded } from "./recording.ts";
import { stateOf } from "./test-state.ts";

/** Milliseconds of real time after which it is said what is waited for. */
const HINT_AFTER = 3_000;

const performed = new WeakSet<Job<unknown>>();

/** Whether a job is one of `perform`, and in no queue. */
export function isPerformed(job: Job<unknown>): boolean {
  return performed.has(job);
}

/**
 * Runs a task's handler once, as a worker would: with what the schema makes of the input, with a job, within its timeout. The job is
 * in no queue, and nothing is left of it. Resolves with the result, as `run.result()` would.
 * @throws what the handler throws, or ends its attempt with; PayloadError for an input or a result that does not fit; an error with
 *   the code `HONKBUN_JOB_TIMEOUT` once the clock of the database says so; ClaimLostError, ClosedError; TypeError when the task has
 *   no handler; all as rejections
 */
// biome-ignore lint/suspicious/noExplicitAny: what the schema makes of the input does not matter here
export async function perform<In, R>(task: Task<In, any, R>, input: In): Promise<R> {
  if (!(task instanceof Task)) throw new TypeError(`perform: task must be a task, got ${show(task)}`);
  const { name, known } = task;
  if (known === undefined) throw new TypeError(`perform: the task ${name} has no handler in this process`);
  const { context } = task.queue;
  const { promise, resolve, reject } = Promise.withResolvers<Attempt>();
  const lane = new SingleLane(context, known, task.draft(input, {}, "perform"), reject);
  const ended = (attempt: Attempt): void => {
    if (attempt.job === lane.job) resolve(attempt);
  };
  context.seams.ended.add(ended);
  const worker = new QueueWorker(context, [lane], readWorkOptions({ prefetch: 0 }));
  const hint = setTimeout(() => {
    const clock = stateOf(context.pool) === undefined ? "" : "; its timeout goes by db.clock";
    console.warn(`perform: the handler of ${name} has been running for ${HINT_AFTER} ms${clock}`);
  }, HINT_AFTER);
  hint.unref();
  worker.stopped.then(() => reject(new ClosedError("perform: this honkbun handle was closed")), reject);
  try {
    return resultOf(known, await promise) as R;
  } finally {
    clearTimeout(hint);
    context.seams.ended.delete(ended);
    const { lease } = lane.job ?? {};
    if (lease?.isLost)
      worker.die(lease.lostError("perform")); // its handler may never end
    else await worker.stop();
    if (!context.pool.isClosed) await context.pool.loops.write((connection) => lane.forget(connection));
  }
}

function resultOf({ name, context }: KnownTask, { outcome, error, result }: Attempt): unknown {
  if (outcome === "completed") {
    if (result === undefined) return undefined;
    const what = (): string => `result of the task ${name}`;
    return deserialize(serialize(result, context.resultSchema, what), context.resultSchema, what);
  }
  if (error !== undefined) throw error;
  throw new Error(`perform: the handler of ${name} has not completed its job, which is ${outcome}`);
}

/** One job of a task, in a queue that nobody else looks into. */
class SingleLane implements Lane<TaskJob<unknown>> {
  readonly queue: string = `_perform:${crypto.randomUUID()}`;
  job: TaskJob<unknown> | undefined;
  readonly #context: QueueContext;
  readonly #known: KnownTask;
  readonly #draft: NewJob;
  readonly #lost: (reason: unknown) => void;
  /** What reads and runs it, as if it were in the task's queue. */
  readonly #lane: TaskLane;
  #id = 0;

  /** `lost` is called when somebody has taken the job away. */
  constructor(context: QueueContext, known: KnownTask, draft: NewJob, lost: (reason: unknown) => void) {
    this.#context = context;
    this.#known = known;
    this.#draft = draft;
    this.#lost = lost;
    const tasks = new Map([[known.name, known]]);
    this.#lane = new TaskLane(context, known.terms.queue, tasks, readWorkOptions(undefined));
  }

  claim(connection: Connection): Claimed {
    const now = this.#context.clock();
    const claim: Claim = {
      workerId: this.#context.liveness.holder(connection, process.pid),
      visibilityTimeout: this.#known.terms.jobs.visibilityTimeout ?? WORK_VISIBILITY,
      now,
      isRetained: false,
    };
    const rows = this.job === undefined ? [this.#insert(connection, claim)] : [];
    return { claim, rows, isLimited: false, report: () => {} };
  }

  read(row: LiveRow, claim: Claim): Read<TaskJob<unknown>> {
    const read = this.#lane.read(row, claim);
    const { job } = read;
    this.job = job;
    performed.add(job);
    job.signal.addEventListener("abort", () => {
      if (job.lease.isLost) this.#lost(job.signal.reason);
    });
    return read;
  }

  run(job: TaskJob<unknown>): unknown {
    return this.#lane.run(job);
  }

  timeout(job: TaskJob<unknown>): number | undefined {
    return this.#lane.timeout(job);
  }

  /** Removes whatever is left of the job. */
  forget(connection: Connection): void {
    for (const statement of connection.use(preparePerformStatements).forget) statement.run(this.#id);
    forgetRecorded(connection, this.queue);
  }

  #insert(connection: Connection, { workerId, visibilityTimeout, now }: Claim): LiveRow {
    const [, payload, priority, , due, maxAttempts, createdAt, , keepResult] = this.#draft.values;
    const [, ...others] = this.#draft.values;
    const job: NewJob = { ...this.#draft, values: [this.queue, ...others] };
    const { id } = insertJob(connection, job, () => {});
    const expiry = claimExpiry(now, visibilityTimeout);
    connection.use(preparePerformStatements).claim.run(id, workerId, expiry);
    this.#id = id;
    return {
      id,
      payload,
      priority,
      attempts: 1,
      max_attempts: maxAttempts,
      created_at: createdAt,
      due,
      turn_ms: null,
      keep_result: keepResult,
    };
  }
}

interface PerformStatements {
  /** id, worker id, expiry in seconds. */
  readonly claim: Statement<never, [number, string, number]>;
  /** id. */
  readonly forget: readonly Statement<never, [number]>[];
}

function preparePerformStatements(connection: Connection): PerformStatements {
  const places = {
    _honker_live: "id",
    _honker_dead: "id",
    _honker_results: "job_id",
    _honkbun_completed: "id",
    _honkbun_errors: "job_id",
    _honkbun_progress: "job_id",
  };
  return {
    claim: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', attempts = 1, worker_id = ?2, claim_expires_at = ?3 WHERE id = ?1`,
    ),
    forget: Object.entries(places).map(([table, id]) =>
      connection.prepare(`DELETE FROM ${table} WHERE ${id} = ?1`),
    ),
  };
}
