import { UnknownTaskError } from "../errors.ts";
import { deserialize } from "../payload.ts";
import { type Claimed, Claiming, type Read } from "../queue/claiming.ts";
import type { JobContext } from "../queue/job.ts";
import type { Lane } from "../queue/lane.ts";
import type { Claim } from "../queue/lease.ts";
import { jobContext, type QueueContext, WORK_VISIBILITY } from "../queue/queue-context.ts";
import { readQueueOptions } from "../queue/queue-options.ts";
import type { LiveRow } from "../queue/statements.ts";
import type { WorkTerms } from "../queue/work-options.ts";
import type { Connection } from "../sqlite/connection.ts";
import { inputSchema, readEnvelope } from "./envelope.ts";
import { TaskJob } from "./task-job.ts";
import type { TaskTerms } from "./task-options.ts";

/** A task that this process can run. */
export interface KnownTask {
  readonly name: string;
  readonly terms: TaskTerms;
  readonly context: JobContext;
  readonly handler: (input: never, job: TaskJob<never>) => unknown;
}

/** Runs the tasks of one queue, each by its handler. */
export class TaskLane implements Lane<TaskJob<unknown>> {
  readonly queue: string;
  readonly #context: QueueContext;
  readonly #work: WorkTerms;
  /** Those of this queue, by name; there may be more of them later. */
  readonly #tasks: ReadonlyMap<string, KnownTask>;
  readonly #claiming: Claiming<TaskJob<unknown>>;

  constructor(context: QueueContext, queue: string, tasks: ReadonlyMap<string, KnownTask>, work: WorkTerms) {
    this.queue = queue;
    this.#context = context;
    this.#work = work;
    this.#tasks = tasks;
    // For jobs of tasks that nobody knows here.
    const unknown = jobContext(context, queue, readQueueOptions("work", undefined));
    this.#claiming = new Claiming(queue, unknown, (row, claim) => {
      const what = (): string => `job ${row.id} of ${queue}`;
      const payload = deserialize(row.payload, undefined, what);
      const envelope = readEnvelope(payload);
      const task = tasks.get(envelope?.task ?? "");
      if (envelope === null || task === undefined) {
        return new TaskJob<unknown>(row, queue, payload, claim, unknown, envelope);
      }
      const input = deserialize(row.payload, inputSchema(task.name, task.terms.input), what);
      return new TaskJob<unknown>(row, queue, input, claim, task.context, envelope);
    });
  }

  claim(connection: Connection, count: number, startable: number): Claimed {
    const timeouts = this.#tasks.values().map(({ terms }) => terms.jobs.visibilityTimeout ?? WORK_VISIBILITY);
    return this.#claiming.claim(connection, {
      count,
      startable,
      workerId: this.#context.liveness.holder(connection, this.#work.label),
      visibilityTimeout: Math.max(...timeouts),
      isPatient: false,
    });
  }

  read(row: LiveRow, claim: Claim): Read<TaskJob<unknown>> {
    return this.#claiming.read(row, claim);
  }

  run(job: TaskJob<unknown>): unknown {
    const task = this.#taskOf(job);
    if (task !== undefined) return task.handler(job.payload as never, job as TaskJob<never>);
    // Retried, not buried: while a new version is rolled out, another worker may know it.
    const known = [...this.#tasks.keys()].sort().join(", ");
    throw new UnknownTaskError(
      job.envelope === null
        ? `job ${job.id} of ${job.queue} is no task; this worker knows the tasks ${known}`
        : `no handler for the task ${job.envelope.task}; this worker knows ${known}`,
    );
  }

  timeout(job: TaskJob<unknown>): number | undefined {
    return this.#taskOf(job)?.terms.timeout ?? this.#work.timeout;
  }

  #taskOf({ envelope }: TaskJob<unknown>): KnownTask | undefined {
    return envelope === null ? undefined : this.#tasks.get(envelope.task);
  }
}
