import { toUnixSeconds } from "../clock.ts";
import { JobExpiredError } from "../errors.ts";
import { messageOf } from "../payload.ts";
import type { Connection } from "../sqlite/connection.ts";
import { inSavepointIf } from "../sqlite/transaction.ts";
import {
  admit,
  admitsAt,
  followClock,
  joinGroups,
  noteStarts,
  readStanding,
  type Standing,
} from "./admission.ts";
import { buryJobs, buryUnsafe, type Failure, type OnSwept, recordError } from "./burial.ts";
import type { Claim } from "./lease.ts";
import { pruneAfter, prunesAt } from "./retention.ts";
import { type DeadlineRow, type LiveRow, prepareQueueStatements } from "./statements.ts";

// What happens to jobs, as writes on a connection that is inside a transaction (a single statement needs none). Whoever
// calls decides which connection that is: the application's for a user's call, the loops' for what loops do.

/** Rows that are freed at once, until so many milliseconds are over: payloads may be large. */
const SWEEP_PORTION = 10;
const SWEEP_TIME = 5;

/** The second until which a claim holds that is made or renewed now. */
export function claimExpiry(now: number, visibilityTimeout: number): number {
  return Math.ceil((now + visibilityTimeout) / 1_000);
}

/**
 * Claims up to `count` due jobs, in claim order: priority (high first), due time, id. For a queue that is limited, `count` is
 * what may be started at once.
 */
export function claimJobs(
  connection: Connection,
  queue: string,
  standing: Standing,
  count: number,
  { workerId, visibilityTimeout, now }: Claim,
): LiveRow[] {
  if (standing.isPaused) return [];
  if (standing.hasUnjoined) joinGroups(connection, queue, now);
  followClock(connection, queue, standing, now);
  const wanted = admit(connection, queue, standing, count, now);
  if (wanted === 0) return [];
  const { firsts, take, takeOne, expired, noteTurn } = connection.use(prepareQueueStatements);
  const seconds = toUnixSeconds(now);
  const expiry = claimExpiry(now, visibilityTimeout);
  const claimed: LiveRow[] = [];
  for (const { id } of firsts.all(queue, now, wanted)) {
    const left = wanted - claimed.length;
    if (left === 0) break;
    const rows =
      left === 1
        ? takeOne.all(id, seconds, workerId, expiry)
        : take.all(queue, now, seconds, left, id, workerId, expiry);
    claimed.push(...rows.sort(inClaimOrder));
    // Expired ones may stand in front of others of this priority, which come before those of a lower one.
    if (rows.length < left && expired.get(queue, seconds, 1) !== null) break;
  }
  if (standing.hasGroups || standing.hasUnjoined)
    noteTurn.run(now, JSON.stringify(claimed.map(({ id }) => id)));
  noteStarts(connection, queue, standing, claimed.length, now);
  return claimed;
}

function inClaimOrder(a: LiveRow, b: LiveRow): number {
  return a.due - b.due || (a.turn_ms ?? 0) - (b.turn_ms ?? 0) || a.id - b.id;
}

/**
 * Frees what can no longer run as it stands: expired claims become pending again; jobs without attempts left, and
 * expired ones, are buried. Takes some milliseconds at most; false when there is more.
 */
export function sweepQueue(connection: Connection, queue: string, now: number, onSwept: OnSwept): boolean {
  buryUnsafe(connection, queue, now); // first: below, jobs are moved by their ids, and these would be found again and again
  const end = performance.now() + SWEEP_TIME;
  while (sweepPortion(connection, queue, now, onSwept)) if (performance.now() >= end) return false;
  return true;
}

/**
 * Makes the claims of a handle whose process is gone pending again; those without attempts left are buried by the next claim.
 * Takes some milliseconds at most; false when there is more.
 */
export function releaseHandle(
  connection: Connection,
  handle: string,
  pid: number,
  now: number,
  onSwept: OnSwept,
): boolean {
  const { releaseHandle: release } = connection.use(prepareQueueStatements);
  const end = performance.now() + SWEEP_TIME;
  for (;;) {
    const released = release.all(handle, SWEEP_PORTION);
    for (const job of released) {
      const error = new Error(`the process or thread ${pid} of its worker is gone`);
      recordError(connection, job, error, now);
      if (job.attempts < job.max_attempts) onSwept("job:retried", job, error);
    }
    if (released.length < SWEEP_PORTION) return true;
    if (performance.now() >= end) return false;
  }
}

/** Whether a handle has claims. */
export function holdsJobs(connection: Connection, handle: string): boolean {
  return connection.use(prepareQueueStatements).heldByHandle.get(handle) !== null;
}

/** True when there may be more. */
function sweepPortion(connection: Connection, queue: string, now: number, onSwept: OnSwept): boolean {
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
  buryJobs(connection, spent, "max attempts exceeded", now, onSwept);
  for (const job of spent) onSwept("job:dead", job, new Error("max attempts exceeded"));
  const late = expired.all(queue, seconds, SWEEP_PORTION);
  buryJobs(connection, late, EXPIRED, now, onSwept);
  for (const job of late) {
    onSwept("job:dead", job, new JobExpiredError(`job ${job.id} of ${queue} was not claimed in time`));
  }
  return Math.max(released.length, spent.length, late.length) === SWEEP_PORTION;
}

/** What honker, too, writes as the last error of a job that was buried because it had expired. */
export const EXPIRED = "expired";

/** When there will be something to claim or to free, in epoch milliseconds; Infinity if nothing is known of. */
export function nextDeadline(connection: Connection, queue: string, now: number): number {
  const standing = readStanding(connection, queue, now);
  if (standing.hasFailed) return 0;
  const { deadline } = connection.use(prepareQueueStatements);
  const { due, joins_at, claim_expires_at, expires_at, has_stuck } = deadline.get(queue) as DeadlineRow;
  if (has_stuck === 1) return 0;
  const never = Number.POSITIVE_INFINITY;
  const ready = Math.min(due ?? never, joins_at ?? never);
  return Math.min(
    ready === never ? never : Math.max(ready, admitsAt(connection, queue, standing, now)),
    // A claim holds through the second in which it expires.
    claim_expires_at === null ? never : (claim_expires_at + 1) * 1_000,
    expires_at === null ? never : expires_at * 1_000,
    prunesAt(connection, queue, standing),
  );
}

export interface Completion {
  /** JSON text, where there is a result. */
  readonly result: string | null;
  /** Milliseconds for which job and result are kept; 0 for ever, null not at all. */
  readonly keep: number | null;
  /** Whether they are kept for as long as the queue keeps completed jobs. */
  readonly isRetained: boolean;
  /** When the job was claimed. */
  readonly startedAt: number;
  readonly now: number;
}

/** Acks a job of which job and result are kept. False when the claim no longer holds it; then it is left as it is. */
export function completeJob(
  connection: Connection,
  queue: string,
  id: number,
  workerId: string,
  { result, keep, isRetained, startedAt, now }: Completion,
): boolean {
  const { ack, complete, saveResult } = connection.use(prepareQueueStatements);
  const forgetAt = keep === null ? 0 : keep === 0 ? null : Math.ceil((now + keep) / 1_000);
  if (complete.run(startedAt, now, forgetAt, id, workerId).changes === 0) return false;
  saveResult.run(id, result, toUnixSeconds(now), isRetained ? null : forgetAt);
  ack.get(id, workerId);
  if (isRetained) pruneAfter(connection, queue, id, now);
  return true;
}

/** A job that was acked, and whether errors or progress are stored apart from it. */
export interface AckedRow {
  readonly id: number;
  readonly has_history: number | null;
}

/** Acks jobs of one claim of which nothing is kept, by one statement. Returns those that the claim still held. */
export function ackJobs(connection: Connection, ids: readonly number[], workerId: string): AckedRow[] {
  const { ack, ackMany } = connection.use(prepareQueueStatements);
  const [id, ...others] = ids;
  if (id === undefined || others.length > 0) return ackMany.all(JSON.stringify(ids), workerId);
  const row = ack.get(id, workerId);
  return row === null ? [] : [{ id, ...row }];
}

/**
 * The same for jobs that have left nothing stored apart: all, inside a transaction, or none when that is not so, or one is not held.
 * Not to ask for the rows saves a quarter of the time.
 */
export function ackPlainJobs(connection: Connection, ids: readonly number[], workerId: string): boolean {
  const { ackPlain } = connection.use(prepareQueueStatements);
  return inSavepointIf(connection, () => ackPlain.run(JSON.stringify(ids), workerId).changes === ids.length);
}

/** Forgets what was stored apart from jobs. */
export function forgetHistory(connection: Connection, ids: readonly number[]): void {
  const { forgetErrors, forgetProgress } = connection.use(prepareQueueStatements);
  const list = JSON.stringify(ids);
  forgetErrors.run(list);
  forgetProgress.run(list);
}

/** How an attempt ends that has failed. `onSwept` is called for jobs that were to run after this one and are buried with it. */
export interface Ending {
  readonly error: unknown;
  readonly now: number;
  readonly onSwept: OnSwept;
}

/** Ends an attempt: the job becomes due again at `due`, or is buried when it was the last. Null when the claim is lost. */
export function retryJob(
  connection: Connection,
  id: number,
  workerId: string,
  options: Ending & { readonly due: number },
): Failure | null {
  const { held, reschedule } = connection.use(prepareQueueStatements);
  const job = held.get(id, workerId);
  if (job === null) return null;
  const { due, error, now, onSwept } = options;
  recordError(connection, job, error, now);
  if (job.attempts < job.max_attempts) {
    reschedule.run(toUnixSeconds(due), due, id);
    return "job:retried";
  }
  buryJobs(connection, [job], error === undefined ? "max attempts exceeded" : messageOf(error), now, onSwept);
  return "job:dead";
}

/** Buries the job whatever attempts are left. Null when the claim is lost. */
export function failJob(
  connection: Connection,
  id: number,
  workerId: string,
  { error, now, onSwept }: Ending,
): Failure | null {
  const job = connection.use(prepareQueueStatements).held.get(id, workerId);
  if (job === null) return null;
  recordError(connection, job, error, now);
  buryJobs(connection, [job], messageOf(error), now, onSwept);
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
  const { saveProgress: save, markHistory } = connection.use(prepareQueueStatements);
  if (save.run(value, id, workerId).changes === 0) return false;
  markHistory.run(id);
  return true;
}
