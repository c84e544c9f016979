import type { Job } from "./queue/job.ts";
import type { Queue } from "./queue/queue.ts";

/** How an attempt has ended. */
export type AttemptOutcome = "completed" | "retried" | "dead" | "snoozed";

/** What came of an attempt. */
export interface Attempt {
  readonly job: Job<unknown>;
  readonly outcome: AttemptOutcome;
  readonly error: unknown;
  readonly result: unknown;
}

/** Where `honkbun/testing` looks in, and lets things go wrong. */
export class Seams {
  /** Each is called before a worker calls a handler: what it throws, the handler has thrown. */
  readonly starting: Set<(job: Job<unknown>) => void> = new Set();
  /** Calls a handler, and returns what it does. */
  around: ((job: Job<unknown>, handler: () => unknown) => unknown) | undefined;
  /** Called where somebody begins to wait for a result, a lock or a rate limit; returns what to call when that is over. */
  waiting: (() => () => void) | undefined;
  /** Each is called when an attempt of this process has ended, and that is committed. */
  readonly ended: Set<(attempt: Attempt) => void> = new Set();
  /** Called when `db.queue` has made a handle. */
  opened: ((queue: Queue<never, unknown, unknown>, hasOptions: boolean) => void) | undefined;

  /** Runs what waits for something. */
  async wait<T>(wait: () => Promise<T>): Promise<T> {
    const over = this.waiting?.();
    try {
      return await wait();
    } finally {
      over?.();
    }
  }
}
