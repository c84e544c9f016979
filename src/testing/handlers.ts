import { AsyncLocalStorage } from "node:async_hooks";

import type { Job } from "../queue/job.ts";
import type { Seams } from "../seams.ts";
import { isThenable } from "../thenable.ts";

interface Running {
  readonly job: Job<unknown>;
  /** For how many results, locks and rate limits it waits. */
  waits: number;
}

/** Which handlers run in this process, and which of them wait for something that the database has to give. */
export class Handlers {
  readonly #storage = new AsyncLocalStorage<Running>();
  readonly #running = new Set<Running>();

  /** From now on it knows. */
  attach(seams: Seams): void {
    seams.around = (job, handler) => {
      const running: Running = { job, waits: 0 };
      this.#running.add(running);
      const over = (): void => void this.#running.delete(running);
      let result: unknown;
      try {
        result = this.#storage.run(running, handler);
      } catch (error) {
        over();
        throw error;
      }
      if (isThenable(result)) result.then(over, over);
      else over();
      return result;
    };
    seams.waiting = () => {
      const running = this.#storage.getStore();
      if (running === undefined) return () => {};
      running.waits++;
      return () => void running.waits--;
    };
  }

  /** Whether all handlers wait that run one of these jobs, and there are any. */
  areWaiting(jobs: readonly Job<unknown>[]): boolean {
    const held = new Set(jobs); // others have been given up
    const running = [...this.#running].filter(({ job }) => held.has(job));
    return running.length > 0 && running.every(({ waits }) => waits > 0);
  }
}
