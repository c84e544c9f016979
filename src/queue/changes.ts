import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { COPIED, EXHAUSTED, WAITING } from "./statements.ts";

// What is done to jobs from outside, by whoever knows their ids, and to whole queues.

/** Milliseconds for which it is remembered that a job was cancelled. */
const CANCELLED_KEPT = 24 * 3_600_000;
/** What is forgotten in one go at most. */
const FORGET_PORTION = 500;

export interface JobChanges {
  /** JSON text. */
  readonly payload: string | null;
  /** Epoch milliseconds. */
  readonly due: number | null;
  readonly priority: number | null;
}

/** Changes a job that is not claimed. False when there is none. */
export function updateJob(
  connection: Connection,
  queue: string,
  id: number,
  { payload, due, priority }: JobChanges,
): boolean {
  const { update } = connection.use(prepareChangeStatements);
  const runAt = due === null ? null : toUnixSeconds(due);
  return update.run(queue, id, payload, priority, runAt, due).changes === 1;
}

/** Removes a job that has not ended, and remembers it as cancelled. False when there is none. */
export function cancelJob(connection: Connection, queue: string, id: number, now: number): boolean {
  const { cancel, remove } = connection.use(prepareChangeStatements);
  if (cancel.run(queue, id, now).changes === 0) return false;
  remove.run(queue, id);
  return true;
}

/** Cancels every job of the queue that is not claimed. Returns how many there were. */
export function clearQueue(connection: Connection, queue: string, now: number): number {
  let count = 0;
  for (const { cancelAll, removeAll } of connection.use(prepareChangeStatements).unclaimed) {
    cancelAll.run(queue, now);
    count += removeAll.run(queue).changes;
  }
  return count;
}

export function setPaused(connection: Connection, queue: string, paused: boolean): void {
  connection.use(prepareChangeStatements).setPaused.run(queue, paused ? 1 : 0);
}

/** Forgets, in bounded portions, completed jobs whose time is over, and what was cancelled long ago. */
export function forgetEnded(connection: Connection, now: number): void {
  const { oldCompleted, oldCancelled, forget } = connection.use(prepareChangeStatements);
  const completed = oldCompleted.all(toUnixSeconds(now), FORGET_PORTION);
  const cancelled = oldCancelled.all(now - CANCELLED_KEPT, FORGET_PORTION);
  if (completed.length === 0 && cancelled.length === 0) return;
  const ids = JSON.stringify([...completed, ...cancelled].map(({ id }) => id));
  for (const statement of forget) statement.run(ids);
}

interface ChangeStatements {
  /** queue, id, payload, priority, due in seconds and in milliseconds; NULL leaves each as it is. */
  readonly update: Statement<
    never,
    [string, number, string | null, number | null, number | null, number | null]
  >;
  /** queue, id, now in milliseconds. */
  readonly cancel: Statement<never, [string, number, number]>;
  readonly remove: Statement<never, [string, number]>;
  /** For each state of unclaimed jobs, because each has its own index: queue, now in milliseconds; queue. */
  readonly unclaimed: readonly {
    readonly cancelAll: Statement<never, [string, number]>;
    readonly removeAll: Statement<never, [string]>;
  }[];
  readonly setPaused: Statement<never, [string, number]>;
  /** now in seconds, at most so many. */
  readonly oldCompleted: Statement<{ id: number }, [number, number]>;
  /** before then in milliseconds, of the first so many. */
  readonly oldCancelled: Statement<{ id: number }, [number, number]>;
  /** All that is kept of ended jobs: ids as a JSON array. */
  readonly forget: readonly Statement<never, [string]>[];
}

function prepareChangeStatements(connection: Connection): ChangeStatements {
  const one = "queue = ?1 AND id = ?2";
  const cancel = (where: string, now: string): string =>
    `INSERT OR REPLACE INTO _honkbun_cancelled
       (id, queue, payload, priority, attempts, max_attempts, created_at, due, cancelled_at)
     SELECT ${COPIED}, CAST(due AS INTEGER), ${now} FROM _honker_live WHERE ${where}`;
  const forget = (table: string, id: string): Statement<never, [string]> =>
    connection.prepare(`DELETE FROM ${table} WHERE ${id} IN (SELECT value FROM json_each(?1))`);
  return {
    // With another payload it is another job: whoever held a claim on it that expired can no longer end it.
    update: connection.prepare(
      `UPDATE _honker_live SET payload = coalesce(?3, payload), priority = coalesce(?4, priority),
         run_at = coalesce(?5, run_at), due_ms = coalesce(?6, due_ms), worker_id = iif(?3 IS NULL, worker_id, NULL)
       WHERE ${one} AND state IN ('pending', 'blocked')`,
    ),
    cancel: connection.prepare(cancel(one, "?3")),
    remove: connection.prepare(`DELETE FROM _honker_live WHERE ${one}`),
    unclaimed: [WAITING, EXHAUSTED, "queue = ?1 AND state = 'blocked'"].map((where) => ({
      cancelAll: connection.prepare(cancel(where, "?2")),
      removeAll: connection.prepare(`DELETE FROM _honker_live WHERE ${where}`),
    })),
    setPaused: connection.prepare(
      `INSERT INTO _honkbun_queues (name, paused) VALUES (?1, ?2)
       ON CONFLICT (name) DO UPDATE SET paused = excluded.paused`,
    ),
    oldCompleted: connection.prepare(
      "SELECT id FROM _honkbun_completed WHERE expires_at IS NOT NULL AND expires_at <= ?1 LIMIT ?2",
    ),
    oldCancelled: connection.prepare(
      `SELECT id FROM (SELECT id, cancelled_at FROM _honkbun_cancelled ORDER BY seq LIMIT ?2)
       WHERE cancelled_at < ?1`,
    ),
    forget: [
      forget("_honkbun_completed", "id"),
      forget("_honkbun_cancelled", "id"),
      forget("_honker_results", "job_id"),
      forget("_honkbun_errors", "job_id"),
      forget("_honkbun_progress", "job_id"),
    ],
  };
}
