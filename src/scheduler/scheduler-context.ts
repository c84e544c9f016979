import type { Context } from "../context.ts";
import type { Locks } from "../locks/locks.ts";
import type { QueueContext } from "../queue/queue-context.ts";
import type { SchedulerRun } from "./scheduler-run.ts";

/** What the scheduler of a honkbun handle needs. */
export interface SchedulerContext extends Context {
  readonly locks: Locks;
  readonly queues: QueueContext;
  /** Those that run. */
  readonly runs: Set<SchedulerRun>;
}
