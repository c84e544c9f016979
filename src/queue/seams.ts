import type { Job } from "./job.ts";
import type { Queue } from "./queue.ts";

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
  /** Called when `db.queue` has made a handle. */
  opened: ((queue: Queue<never, unknown, unknown>, hasOptions: boolean) => void) | undefined;
  /** Each is called when an attempt of this process has ended, and that is committed. */
  readonly ended: Set<(attempt: Attempt) => void> = new Set();
}
