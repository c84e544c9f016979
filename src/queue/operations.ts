import { toUnixSeconds } from "../clock.ts";
import { messageOf } from "../payload.ts";
import type { Connection } from "../sqlite/connection.ts";
import { type LiveRow, prepareQueueStatements } from "./statements.ts";

// What happens to jobs, as writes on a connection that is inside a transaction (a single statement needs none). Whoever
// calls decides which connection that is: the application's for a user's call, the loops' for what loops do.

/** Rows that one claim frees at most, so that it takes milliseconds however many there are. */
const SWEEP_PORTION = 500;

export interface Claim {
  readonly queue: string;
  readonly count: number;
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  readonly now: number;
}

/** Claims up to `count` due jobs, in claim order: priority (high first), due time, id. */
export function claimJobs(
  connection: Connection,
  { queue, count, workerId, visibilityTimeout, now }: Claim,
): LiveRow[] {
  const { pick, take, takeMany } = connection.use(prepareQueueStatements);
  const picked = pick.all(queue, now, toUnixSeconds(now), count);
  const expires = Math.ceil((now + visibilityTimeout) / 1_000);
  const [first] = picked;
  if (first === undefined) return [];
  if (picked.length === 1) {
    const row = take.get(workerId, expires, first.id);
    return row === null ? [] : [row];
  }
  const rows = takeMany.all(workerId, expires, JSON.stringify(picked.map(({ id }) => id)));
  const rank = new Map(picked.map(({ id }, index) => [id, index]));
  return rows.sort((a, b) => (rank.get(a.id) ?? 0) - (rank.get(b.id) ?? 0));
}

/**
 * Frees what can no longer run as it stands: expired claims become pending again; jobs without attempts left, and
 * expired ones, are buried. False when there may be more.
 */
export function sweepQueue(connection: Connection, queue: string, now: number): boolean {
  const { release, exhausted, expired } = connection.use(prepareQueueStatements);
  const seconds = toUnixSeconds(now);
  const released = release.run(queue, seconds, SWEEP_PORTION).changes;
  const spent = exhausted.all(queue, SWEEP_PORTION);
  for (const { id } of spent) buryJob(connection, id, "max attempts exceeded", now);
  const late = expired.all(queue, seconds, SWEEP_PORTION);
  for (const { id } of late) buryJob(connection, id, "expired", now);
  return Math.max(released, spent.length, late.length) < SWEEP_PORTION;
}

/** When there will be something to claim or to free, in epoch milliseconds; Infinity if nothing is known of. */
export function nextDeadline(connection: Connection, queue: string, now: number): number {
  const { nextDue, nextExpiry } = connection.use(prepareQueueStatements);
  const due = nextDue.get(queue, toUnixSeconds(now))?.due ?? Number.POSITIVE_INFINITY;
  const expiry = nextExpiry.get(queue)?.expires_at ?? Number.POSITIVE_INFINITY;
  return Math.min(due, (expiry + 1) * 1_000); // a claim holds through the second in which it expires
}

/** False when the claim no longer holds the job, which then is left as it is. */
export function ackJob(connection: Connection, id: number, workerId: string): boolean {
  return connection.use(prepareQueueStatements).ack.run(id, workerId).changes === 1;
}

/** Ends an attempt: the job becomes due again at `due`, or is buried when it was the last. False when the claim is lost. */
export function retryJob(
  connection: Connection,
  id: number,
  workerId: string,
  options: { readonly due: number; readonly error: unknown; readonly now: number },
): boolean {
  const { held, reschedule } = connection.use(prepareQueueStatements);
  const job = held.get(id, workerId);
  if (job === null) return false;
  const { due, error, now } = options;
  recordError(connection, id, job.attempts, error, now);
  if (job.attempts >= job.max_attempts) {
    buryJob(connection, id, error === undefined ? "max attempts exceeded" : messageOf(error), now);
  } else {
    reschedule.run(toUnixSeconds(due), due, id);
  }
  return true;
}

/** Buries the job whatever attempts are left. False when the claim is lost. */
export function failJob(
  connection: Connection,
  id: number,
  workerId: string,
  options: { readonly error: unknown; readonly now: number },
): boolean {
  const job = connection.use(prepareQueueStatements).held.get(id, workerId);
  if (job === null) return false;
  recordError(connection, id, job.attempts, options.error, options.now);
  buryJob(connection, id, messageOf(options.error), options.now);
  return true;
}

/** Makes the job claimable again where it stood, as if this attempt had not been. False when the claim is lost. */
export function giveBackJob(connection: Connection, id: number, workerId: string): boolean {
  return connection.use(prepareQueueStatements).giveBack.run(id, workerId).changes === 1;
}

function buryJob(connection: Connection, id: number, reason: string, now: number): void {
  const { copyToDead, remove } = connection.use(prepareQueueStatements);
  copyToDead.run(reason, toUnixSeconds(now), id);
  remove.run(id);
}

function recordError(connection: Connection, id: number, attempt: number, error: unknown, now: number): void {
  if (error === undefined) return;
  const stack = error instanceof Error ? (error.stack ?? null) : null;
  connection.use(prepareQueueStatements).insertError.run(id, attempt, messageOf(error), stack, now);
}
