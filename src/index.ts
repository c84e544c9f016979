export type { Change } from "./capture/capture.ts";
export type { CheckReport, Finding } from "./check/finding.ts";
export type { Clock } from "./clock.ts";
export { type Honkbun, open, type OpenOptions } from "./database.ts";
export type { Duration, Instant } from "./duration.ts";
export {
  AmbiguousTransactionError,
  type AttemptError,
  BusyError,
  ClaimLostError,
  DuplicateJobError,
  HonkbunError,
  JobCancelledError,
  JobExpiredError,
  JobFailedError,
  JobSettledError,
  LaggedError,
  LockLostError,
  OffsetTrimmedError,
  PayloadError,
  ResultNotKeptError,
  TransactionRequiredError,
  UnrecoverableError,
  WaitTimeoutError,
} from "./errors.ts";
export type { Events, JobEvent, Subscription } from "./events.ts";
export type { Retention } from "./options.ts";
export type { LockOptions } from "./locks/lock-options.ts";
export type { Lock } from "./locks/lock.ts";
export type { LockInfo } from "./locks/locks.ts";
export type { ListenOptions, Notification } from "./pubsub/listener.ts";
export type { Backoff } from "./queue/backoff.ts";
export type { EnqueueOptions } from "./queue/enqueue-options.ts";
export type { DeadJob } from "./queue/dead-letters.ts";
export type { Job } from "./queue/job.ts";
export type { JobInfo, JobState } from "./queue/job-info.ts";
export type { Limits } from "./queue/limits.ts";
export type { Queue } from "./queue/queue.ts";
export type { ClaimOptions, QueueOptions } from "./queue/queue-options.ts";
export type { Outbox } from "./queue/outbox.ts";
export type { Worker, WorkOptions } from "./queue/work-options.ts";
export type { RateLimitOptions } from "./rate-limit/rate-limit-options.ts";
export type { RateLimit } from "./rate-limit/rate-limit.ts";
export type { RateLimitResult } from "./rate-limit/rule.ts";
export type { Running } from "./running.ts";
export type { ScheduleOptions, When } from "./scheduler/schedule-options.ts";
export type { ScheduleInfo, Scheduler } from "./scheduler/scheduler.ts";
export type { SignalOption } from "./signal.ts";
export type { Source } from "./source.ts";
export type { StreamEvent } from "./stream/event.ts";
export type { StreamGroup } from "./stream/group.ts";
export type { Position } from "./stream/position.ts";
export type { StreamOptions } from "./stream/stream-options.ts";
export type { Stream } from "./stream/stream.ts";
export type { StreamSource } from "./stream/subscription.ts";
export type { TaskJob } from "./task/task-job.ts";
export type { TaskOptions } from "./task/task-options.ts";
export type { TaskRun } from "./task/task-run.ts";
export type { Task, TaskHandler } from "./task/task.ts";
export type { Tx, TxOption } from "./transaction-option.ts";
export type { WaitOptions } from "./wait-options.ts";
