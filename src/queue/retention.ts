import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Standing } from "./admission.ts";
import { type Kept, wholeNumber } from "./limits.ts";

// What is kept of jobs that have ended, and for how long.

/** Milliseconds for which it is remembered that a job was cancelled. */
const CANCELLED_KEPT = 24 * 3_600_000;
/** What is forgotten in one go at most. */
const PORTION = 500;
/** To find what is beyond a count, so many are passed over; of larger counts that is done the more seldom. */
const COUNTED = 1_000;

/**
 * Forgets, in bounded portions, what is remembered for a time of jobs of all queues: completed ones whose time is over, unless
 * their queue keeps them longer; what was cancelled long ago; unique keys whose time is over.
 */
export function forgetEnded(connection: Connection, now: number): void {
  const { oldCompleted, keepLonger, oldCancelled, forget, oldWindows } =
    connection.use(prepareRetentionStatements);
  oldWindows.run(now, PORTION);
  const seconds = toUnixSeconds(now);
  let completed = oldCompleted.all(seconds, PORTION);
  if (completed.length > 0 && keepLonger.run(seconds, PORTION).changes > 0) {
    completed = oldCompleted.all(seconds, PORTION);
  }
  forgetAll([...completed, ...oldCancelled.all(now - CANCELLED_KEPT, PORTION)], forget);
}

/** Deletes what the queue is to keep no longer, in bounded portions. False when there is more. */
export function prune(connection: Connection, queue: string, standing: Standing, now: number): boolean {
  const { keepCompleted, keepDead, hasToPrune } = standing;
  let isDone = true;
  if (keepCompleted !== undefined) isDone = pruneCompleted(connection, queue, keepCompleted, now);
  if (keepDead !== null) isDone = pruneDead(connection, queue, keepDead, now) && isDone;
  if (isDone && hasToPrune) connection.use(prepareRetentionStatements).hasPruned.run(queue);
  return isDone;
}

/** Null: none are kept any more. */
export function pruneCompleted(
  connection: Connection,
  queue: string,
  kept: Kept | null,
  now: number,
): boolean {
  const { completedBefore, completedBeyond, forget } = connection.use(prepareRetentionStatements);
  const { maxAge, maxCount } = kept ?? { maxAge: null, maxCount: 0 };
  const old = maxAge === null ? [] : completedBefore.all(queue, now - maxAge, PORTION);
  const surplus = maxCount === null ? [] : completedBeyond.all(queue, maxCount, PORTION);
  forgetAll([...old, ...surplus], forget);
  return Math.max(old.length, surplus.length) < PORTION;
}

export function pruneDead(
  connection: Connection,
  queue: string,
  { maxAge, maxCount }: Kept,
  now: number,
): boolean {
  const { deadBefore, deadBeyond, forgetDead } = connection.use(prepareRetentionStatements);
  const old = maxAge === null ? [] : deadBefore.all(queue, toUnixSeconds(now - maxAge), PORTION);
  const surplus = maxCount === null ? [] : deadBeyond.all(queue, maxCount, PORTION);
  forgetAll([...old, ...surplus], forgetDead);
  return Math.max(old.length, surplus.length) < PORTION;
}

/** A job has completed that the queue keeps: others may have to go. */
export function pruneAfter(connection: Connection, queue: string, id: number, now: number): void {
  const kept = connection.use(prepareRetentionStatements).keepCompleted.get(queue);
  if (kept !== null && isTurnToPrune(kept, id)) pruneCompleted(connection, queue, kept, now);
}

/** Whether it is time to look for what is beyond a count, when this job has ended. */
export function isTurnToPrune({ maxCount }: Kept, id: number): boolean {
  return maxCount === null || id % Math.ceil(maxCount / COUNTED || 1) === 0;
}

/** When the next of what is kept will be too old, in epoch milliseconds. What is too many goes when the next job ends. */
export function prunesAt(
  connection: Connection,
  queue: string,
  { keepCompleted, keepDead, hasToPrune }: Standing,
): number {
  if (hasToPrune) return 0;
  const { firstCompleted, firstDead } = connection.use(prepareRetentionStatements);
  const never = Number.POSITIVE_INFINITY;
  let [completed, dead] = [never, never];
  if (keepCompleted != null && keepCompleted.maxAge !== null) {
    completed = (firstCompleted.get(queue)?.at ?? never) + keepCompleted.maxAge + 1;
  }
  if (keepDead !== null && keepDead.maxAge !== null) {
    dead = ((firstDead.get(queue)?.at ?? never) + 1) * 1_000 + keepDead.maxAge;
  }
  return Math.min(completed, dead);
}

/** How many buried jobs the queue keeps; null where there is no bound. */
export function readKeepDead(connection: Connection, queue: string): Kept | null {
  return connection.use(prepareRetentionStatements).keepDead.get(queue);
}

interface Ended {
  readonly id: number;
}

function forgetAll(ended: readonly Ended[], from: readonly Forget[]): void {
  if (ended.length === 0) return;
  const ids = JSON.stringify(ended.map(({ id }) => id));
  for (const statement of from) statement.run(ids);
}

/** ids as a JSON array. */
type Forget = Statement<never, [string]>;

interface RetentionStatements {
  /** now in seconds, at most so many. */
  readonly oldCompleted: Statement<Ended, [number, number]>;
  /** Of those, the ones whose queues keep completed jobs. */
  readonly keepLonger: Statement<never, [number, number]>;
  /** before then in milliseconds, of the first so many. */
  readonly oldCancelled: Statement<Ended, [number, number]>;
  /** now in milliseconds, at most so many. */
  readonly oldWindows: Statement<never, [number, number]>;
  /** queue, before then, at most so many. */
  readonly completedBefore: Statement<Ended, [string, number, number]>;
  /** queue, beyond so many, at most so many. */
  readonly completedBeyond: Statement<Ended, [string, number, number]>;
  readonly firstCompleted: Statement<{ at: number | null }, [string]>;
  readonly deadBefore: Statement<Ended, [string, number, number]>;
  readonly deadBeyond: Statement<Ended, [string, number, number]>;
  readonly firstDead: Statement<{ at: number | null }, [string]>;
  readonly hasPruned: Statement<never, [string]>;
  readonly keepCompleted: Statement<Kept, [string]>;
  readonly keepDead: Statement<Kept, [string]>;
  /** All that is kept of completed and cancelled jobs. */
  readonly forget: readonly Forget[];
  readonly forgetDead: readonly Forget[];
}

function prepareRetentionStatements(connection: Connection): RetentionStatements {
  const forget = (table: string, id: string): Forget =>
    connection.prepare(`DELETE FROM ${table} WHERE ${id} IN (SELECT value FROM json_each(?1))`);
  const history = [forget("_honkbun_errors", "job_id"), forget("_honkbun_progress", "job_id")];
  const overdue = "SELECT id FROM _honkbun_completed WHERE expires_at > 0 AND expires_at <= ?1 LIMIT ?2";
  const retained = "FROM _honkbun_completed WHERE queue = ?1 AND expires_at = 0";
  const dead = "FROM _honker_dead WHERE queue = ?1";
  return {
    oldCompleted: connection.prepare(overdue),
    keepLonger: connection.prepare(
      `UPDATE _honkbun_completed SET expires_at = 0 WHERE id IN (${overdue})
       AND queue IN (SELECT name FROM _honkbun_queues WHERE keep_completed = 1)`,
    ),
    oldCancelled: connection.prepare(
      `SELECT id FROM (SELECT id, cancelled_at FROM _honkbun_cancelled ORDER BY seq LIMIT ?2)
       WHERE cancelled_at < ?1`,
    ),
    oldWindows: connection.prepare(
      `DELETE FROM _honkbun_unique_windows WHERE (queue, unique_key) IN (
         SELECT queue, unique_key FROM _honkbun_unique_windows WHERE until <= ?1 LIMIT ?2)`,
    ),
    completedBefore: connection.prepare(
      `SELECT id ${retained} AND completed_at < ?2 ORDER BY completed_at, id LIMIT ?3`,
    ),
    completedBeyond: connection.prepare(
      `SELECT id ${retained} ORDER BY completed_at DESC, id DESC LIMIT ?3 OFFSET ?2`,
    ),
    firstCompleted: connection.prepare(
      `SELECT CAST(completed_at AS INTEGER) AS at ${retained} AND typeof(completed_at) IN ('integer', 'real')
       ORDER BY completed_at LIMIT 1`,
    ),
    deadBefore: connection.prepare(`SELECT id ${dead} AND died_at < ?2 ORDER BY died_at, id LIMIT ?3`),
    deadBeyond: connection.prepare(`SELECT id ${dead} ORDER BY died_at DESC, id DESC LIMIT ?3 OFFSET ?2`),
    firstDead: connection.prepare(
      `SELECT CAST(died_at AS INTEGER) AS at ${dead} AND typeof(died_at) IN ('integer', 'real') ORDER BY died_at LIMIT 1`,
    ),
    hasPruned: connection.prepare("UPDATE _honkbun_queues SET has_to_prune = NULL WHERE name = ?1"),
    keepCompleted: connection.prepare(
      `SELECT ${wholeNumber("keep_completed_age")} AS maxAge, ${wholeNumber("keep_completed_count")} AS maxCount
       FROM _honkbun_queues
       WHERE name = ?1 AND keep_completed = 1`,
    ),
    keepDead: connection.prepare(
      `SELECT ${wholeNumber("keep_dead_age")} AS maxAge, ${wholeNumber("keep_dead_count")} AS maxCount FROM _honkbun_queues
       WHERE name = ?1 AND coalesce(keep_dead_age, keep_dead_count) IS NOT NULL`,
    ),
    forget: [
      forget("_honkbun_completed", "id"),
      forget("_honkbun_cancelled", "id"),
      forget("_honker_results", "job_id"),
      ...history,
    ],
    forgetDead: [forget("_honker_dead", "id"), ...history],
  };
}
