import type { QueueContext } from "../queue/queue-context.ts";
import { readWorkOptions, type Worker, type WorkOptions, type WorkTerms } from "../queue/work-options.ts";
import { QueueWorker } from "../queue/worker.ts";
import { type KnownTask, TaskLane } from "./task-lane.ts";

/** The tasks that this process can run, and the workers that run them. */
export class Tasks {
  readonly context: QueueContext;
  readonly #known = new Map<string, KnownTask>();
  readonly #queues = new Map<string, Map<string, KnownTask>>();
  readonly #workers = new Map<QueueWorker, WorkTerms>();

  constructor(context: QueueContext) {
    this.context = context;
  }

  /**
   * From now on this process can run the task; workers that are running begin to.
   * @throws TypeError when it has a handler already
   */
  add(task: KnownTask): void {
    const { name, terms } = task;
    if (this.#known.has(name)) throw new TypeError(`task: ${name} has a handler already in this process`);
    this.#known.set(name, task);
    const tasks = this.#queues.get(terms.queue);
    if (tasks !== undefined) {
      tasks.set(name, task);
      return;
    }
    const first = new Map([[name, task]]);
    this.#queues.set(terms.queue, first);
    const laneFor = (work: WorkTerms): TaskLane => new TaskLane(this.context, terms.queue, first, work);
    this.context.lanes.set(terms.queue, laneFor);
    for (const [worker, work] of this.#workers) worker.addLane(laneFor(work));
  }

  find(name: string): KnownTask | undefined {
    return this.#known.get(name);
  }

  /** @throws TypeError, RangeError */
  work(options: WorkOptions | undefined): Worker {
    const terms = readWorkOptions(options);
    if (this.#known.size === 0) {
      throw new TypeError("work: no task has a handler; give one to db.task, or call task.handle, before");
    }
    const lanes = [...this.#queues].map(([queue, tasks]) => new TaskLane(this.context, queue, tasks, terms));
    const worker = new QueueWorker(this.context, lanes, terms);
    this.#workers.set(worker, terms);
    const forget = (): void => void this.#workers.delete(worker);
    worker.stopped.then(forget, forget);
    return worker;
  }
}
