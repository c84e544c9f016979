import type { JobInfo } from "../queue/job-info.ts";
import type { Queue } from "../queue/queue.ts";
import type { SignalOption } from "../signal.ts";
import type { Source } from "../source.ts";
import type { WaitOptions } from "../wait-options.ts";

/** One job of a task, seen from wherever its id is known. */
export class TaskRun<R> {
  readonly id: number;
  readonly #queue: Queue<unknown, unknown, R>;

  /** @internal */
  constructor(queue: Queue<unknown, unknown, R>, id: number) {
    this.#queue = queue;
    this.id = id;
  }

  /** What is known of it, or null; see `queue.get`. Its payload is the task's input. */
  get(): JobInfo<unknown, R> | null {
    return this.#queue.get(this.id);
  }

  /** Ends it, if it has not ended yet; see `queue.cancel`. */
  cancel(): boolean {
    return this.#queue.cancel(this.id);
  }

  /** Follows it until it has ended; see `queue.watch`. */
  watch(options?: SignalOption): Source<JobInfo<unknown, R>> {
    return this.#queue.watch(this.id, options);
  }

  /** Resolves with what its handler has returned; see `queue.waitResult`. */
  result(options?: WaitOptions): Promise<R> {
    return this.#queue.waitResult(this.id, options);
  }
}
