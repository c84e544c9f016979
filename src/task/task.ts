import { show } from "../duration.ts";
import { assertName } from "../options.ts";
import type { EnqueueOptions } from "../queue/enqueue-options.ts";
import type { NewJob } from "../queue/new-job.ts";
import { jobContext } from "../queue/queue-context.ts";
import { Queue } from "../queue/queue.ts";
import { inputSchema, toPayload } from "./envelope.ts";
import type { TaskJob } from "./task-job.ts";
import type { KnownTask } from "./task-lane.ts";
import { readTaskOptions, type TaskOptions, type TaskSchemas, type TaskTerms } from "./task-options.ts";
import { TaskRun } from "./task-run.ts";
import type { Tasks } from "./tasks.ts";

/** What runs a task: with its input, and the job. What it returns is the result, what it throws ends the attempt. */
export type TaskHandler<I, O> = (input: I, job: TaskJob<I>) => O | Promise<O>;

/** A function that runs elsewhere or later: a typed contract to send by, with a handler where it is to run. */
export class Task<In, Out, R> {
  readonly name: string;
  /** The queue that its jobs are in, perhaps with those of other tasks; the payloads are as they are stored. */
  readonly queue: Queue<unknown>;
  readonly #tasks: Tasks;
  readonly #options: TaskTerms;
  readonly #runs: Queue<unknown, Out, R>;

  /** @internal */
  constructor(tasks: Tasks, name: string, options: (TaskOptions & TaskSchemas) | undefined) {
    assertName(name, "task: name");
    this.name = name;
    this.#tasks = tasks;
    this.#options = readTaskOptions(name, options);
    const { queue, input, jobs } = this.#options;
    this.queue = new Queue(tasks.context, queue, jobs);
    this.#runs = new Queue(tasks.context, queue, { ...jobs, schema: inputSchema(name, input) });
  }

  /**
   * Lets this process run the task, by `db.work`. Once for each task.
   * @throws TypeError
   */
  handle(handler: TaskHandler<Out, R>): void {
    if (typeof handler !== "function") {
      throw new TypeError(`task.handle: handler must be a function, got ${show(handler)}`);
    }
    const { name } = this;
    const { queue, jobs } = this.#options;
    const { context } = this.#tasks;
    this.#tasks.add({ name, terms: this.#options, context: jobContext(context, queue, jobs), handler });
  }

  /**
   * Enqueues a run of the task: on the open `db.transaction`, on `tx`, or committed by itself.
   * @throws PayloadError, TypeError, RangeError and the errors of `queue.enqueue`
   */
  enqueue(input: In, options?: EnqueueOptions): TaskRun<R> {
    return this.job(this.#runs.enqueue(toPayload(this.name, input), this.#withDefaults(options)));
  }

  /**
   * Enqueues many runs in one transaction; see `queue.enqueueMany`. Returns their ids in order.
   * @throws as `enqueue`
   */
  enqueueMany(
    inputs: Iterable<In>,
    options?: EnqueueOptions | ((input: In, index: number) => EnqueueOptions),
  ): number[] {
    if (typeof (inputs as Iterable<In> | null)?.[Symbol.iterator] !== "function") {
      throw new TypeError(`enqueueMany: inputs must be iterable, got ${show(inputs)}`);
    }
    const all = [...inputs];
    return this.#runs.enqueueMany(
      all.map((input) => toPayload(this.name, input)),
      typeof options === "function"
        ? (_, index) => this.#withDefaults(options(all[index] as In, index))
        : this.#withDefaults(options),
    );
  }

  /** A run of which only the id is known: in another request, in another process. */
  job(id: number): TaskRun<R> {
    return new TaskRun(this.#runs, id);
  }

  /** Enqueues a run, and resolves with its result: `enqueue(input).result()`. */
  async run(input: In): Promise<R> {
    return this.enqueue(input).result();
  }

  /** @internal Its handler, if it has one in this process. */
  get known(): KnownTask | undefined {
    return this.#tasks.find(this.name);
  }

  /** @internal See `queue.draft`. */
  draft(input: In, options: EnqueueOptions, call: string): NewJob {
    return this.#runs.draft(toPayload(this.name, input), this.#withDefaults(options), call);
  }

  #withDefaults(options: EnqueueOptions | undefined): EnqueueOptions {
    const { priority } = this.#options;
    return priority === 0 || options?.priority !== undefined ? (options ?? {}) : { ...options, priority };
  }
}
