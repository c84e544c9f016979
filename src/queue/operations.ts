import { toUnixSeconds } from "../clock.ts";
import { JobExpiredError } from "../errors.ts";
import { messageOf } from "../payload.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Claim } from "./lease.ts";
import { type AttemptRow, type LiveRow, prepareQueueStatements } from "./statements.ts";

// What happens to jobs, as writes on a connection that is inside a transaction (a single statement needs none). Whoever
// calls decides which connection that is: the application's for a user's call, the loops' for what loops do.

/** Rows that one claim frees at most, so that it takes milliseconds however many there are. */
const SWEEP_PORTION = 500;

/** How an attempt that failed goes on. */
export type Failure = "job:retried" | "job:dead";

/** Called for each job that a sweep has found. */
export type OnSwept = (event: Failure, job: AttemptRow, error: Error) => void;

/** The second until which a claim holds that is made or renewed now. */
export function claimExpiry(now: number, visibilityTimeout: number): number {
  return Math.ceil((now + visibilityTimeout) / 1_000);
}

/** Claims up to `count` due jobs, in claim order: priority (high first), due time, id. */
export function claimJobs(
  connection: Connection,
  queue: string,
  count: number,
  { workerId, visibilityTimeout, now }: Claim,
): LiveRow[] {
  const { isPaused, claimable, take } = connection.use(prepareQueueStatements);
  if (isPaused.get(queue) !== null) return [];
  const seconds = toUnixSeconds(now);
  const expiry = claimExpiry(now, visibilityTimeout);
  const claimed: LiveRow[] = [];
  for (const { priority } of claimable.all(queue, now, seconds, count)) {
    const left = count - claimed.length;
    if (left === 0) break;
    const rows = take.all(queue, now, seconds, left, priority, workerId, expiry);
    claimed.push(...rows.sort((a, b) => a.due - b.due || a.id - b.id));
  }
  return claimed;
}

/**
 * Frees what can no longer run as it stands: expired claims become pending again; jobs without attempts left, and
 * expired ones, are buried. False when there may be more.
 */
export function sweepQueue(connection: Connection, queue: string, now: number, onSwept: OnSwept): boolean {
  const { release, exhausted, expired } = connection.use(prepareQueueStatements);
  const seconds = toUnixSeconds(now);
  const released = release.all(queue, seconds, SWEEP_PORTION);
  for (const job of released) {
    const error = new Error(
      "the claim expired: its worker is gone, or took longer than the visibility timeout",
    );
    recordError(connection, job, error, now);
    if (job.attempts < job.max_attempts) onSwept("job:retried", job, error);
  }
  const spent = exhausted.all(queue, SWEEP_PORTION);
  for (const job of spent) {
    buryJob(connection, job.id, "max attempts exceeded", now);
    onSwept("job:dead", job, new Error("max attempts exceeded"));
  }
  const late = expired.all(queue, seconds, SWEEP_PORTION);
  for (const job of late) {
    buryJob(connection, job.id, EXPIRED, now);
    onSwept("job:dead", job, new JobExpiredError(`job ${job.id} of ${queue} was not claimed in time`));
  }
  return Math.max(released.length, spent.length, late.length) < SWEEP_PORTION;
}

/** What honker, too, writes as the last error of a job that was buried because it had expired. */
export const EXPIRED = "expired";

/** When there will be something to claim or to free, in epoch milliseconds; Infinity if nothing is known of. */
export function nextDeadline(connection: Connection, queue: string, now: number): number {
  const { isPaused, nextDue, nextExpiry } = connection.use(prepareQueueStatements);
  const due = isPaused.get(queue) === null ? nextDue.get(queue, toUnixSeconds(now))?.due : null;
  const expiry = nextExpiry.get(queue)?.expires_at ?? Number.POSITIVE_INFINITY;
  // A claim holds through the second in which it expires.
  return Math.min(due ?? Number.POSITIVE_INFINITY, (expiry + 1) * 1_000);
}

export interface Completion {
  /** JSON text, where there is a result. */
  readonly result: string | null;
  /** Milliseconds for which job and result are kept; 0 for ever, null not at all. */
  readonly keep: number | null;
  /** Whether errors or progress may be stored apart from the job. */
  readonly hasHistory: boolean;
  readonly now: number;
}

/** False when the claim no longer holds the job, which then is left as it is. */
export function ackJob(
  connection: Connection,
  id: number,
  workerId: string,
  { result, keep, hasHistory, now }: Completion,
): boolean {
  const { ack, complete, saveResult } = connection.use(prepareQueueStatements);
  if (keep === null) {
    if (ack.run(id, workerId).changes === 0) return false;
    if (hasHistory) forgetHistory(connection, id);
    return true;
  }
  const forgetAt = keep === 0 ? null : Math.ceil((now + keep) / 1_000);
  if (complete.run(now, forgetAt, id, workerId).changes === 0) return false;
  saveResult.run(id, result, toUnixSeconds(now), forgetAt);
  ack.run(id, workerId);
  return true;
}

/** Acks jobs of one claim that leave nothing behind. Returns the ids of those that the claim still held. */
export function ackJobs(connection: Connection, ids: readonly number[], workerId: string): number[] {
  const { ack, ackMany } = connection.use(prepareQueueStatements);
  const [id, ...others] = ids;
  if (id !== undefined && others.length === 0) return ack.run(id, workerId).changes === 0 ? [] : [id];
  return ackMany.all(JSON.stringify(ids), workerId).map(({ id }) => id);
}

/** Ends an attempt: the job becomes due again at `due`, or is buried when it was the last. Null when the claim is lost. */
export function retryJob(
  connection: Connection,
  id: number,
  workerId: string,
  options: { readonly due: number; readonly error: unknown; readonly now: number },
): Failure | null {
  const { held, reschedule } = connection.use(prepareQueueStatements);
  const job = held.get(id, workerId);
  if (job === null) return null;
  const { due, error, now } = options;
  recordError(connection, job, error, now);
  if (job.attempts < job.max_attempts) {
    reschedule.run(toUnixSeconds(due), due, id);
    return "job:retried";
  }
  buryJob(connection, id, error === undefined ? "max attempts exceeded" : messageOf(error), now);
  return "job:dead";
}

/** Buries the job whatever attempts are left. Null when the claim is lost. */
export function failJob(
  connection: Connection,
  id: number,
  workerId: string,
  options: { readonly error: unknown; readonly now: number },
): Failure | null {
  const job = connection.use(prepareQueueStatements).held.get(id, workerId);
  if (job === null) return null;
  recordError(connection, job, options.error, options.now);
  buryJob(connection, id, messageOf(options.error), options.now);
  return "job:dead";
}

/** Makes the job claimable again where it stood, as if this attempt had not been. False when the claim is lost. */
export function giveBackJob(connection: Connection, id: number, workerId: string): boolean {
  return connection.use(prepareQueueStatements).giveBack.run(id, workerId).changes === 1;
}

/** Makes the job due at another time, as if this attempt had not been. False when the claim is lost. */
export function snoozeJob(connection: Connection, id: number, workerId: string, due: number): boolean {
  const { snooze } = connection.use(prepareQueueStatements);
  return snooze.run(toUnixSeconds(due), due, id, workerId).changes === 1;
}

/** Lets a claim hold its jobs until `expiry` at least, in seconds. Returns the ids of those that it still holds. */
export function renewClaims(
  connection: Connection,
  ids: readonly number[],
  workerId: string,
  expiry: number,
): number[] {
  const { renew } = connection.use(prepareQueueStatements);
  return renew.all(expiry, JSON.stringify(ids), workerId).map(({ id }) => id);
}

/** Stores the job's progress. False when the claim is lost. */
export function saveProgress(connection: Connection, id: number, workerId: string, value: string): boolean {
  return connection.use(prepareQueueStatements).saveProgress.run(value, id, workerId).changes > 0;
}

/** Forgets what was stored apart from the job. */
export function forgetHistory(connection: Connection, id: number): void {
  const { forgetErrors, forgetProgress } = connection.use(prepareQueueStatements);
  forgetErrors.run(id);
  forgetProgress.run(id);
}

function buryJob(connection: Connection, id: number, reason: string, now: number): void {
  const { copyToDead, remove } = connection.use(prepareQueueStatements);
  copyToDead.run(reason, toUnixSeconds(now), id);
  remove.run(id);
}

function recordError(
  connection: Connection,
  { id, attempts }: Pick<AttemptRow, "id" | "attempts">,
  error: unknown,
  now: number,
): void {
  if (error === undefined) return;
  const stack = error instanceof Error ? (error.stack ?? null) : null;
  connection.use(prepareQueueStatements).insertError.run(id, attempts, messageOf(error), stack, now);
}
