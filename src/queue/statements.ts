import type { Connection, Statement } from "../sqlite/connection.ts";

export interface LiveRow {
  readonly id: number;
  readonly queue: string;
  readonly payload: string;
  readonly priority: number;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly created_at: number;
}

export interface QueueStatements {
  /** queue, payload, priority, due in seconds and in milliseconds, max attempts, now in seconds, expiry in seconds. */
  readonly insert: Statement<never, [string, string, number, number, number, number, number, number | null]>;
  /** Ids of claimable jobs in claim order: queue, now in milliseconds, in seconds, at most so many. */
  readonly pick: Statement<{ id: number }, [string, number, number, number]>;
  /** Makes one job ours: worker id, claim expiry in seconds, id. */
  readonly take: Statement<LiveRow, [string, number, number]>;
  /** The same for a JSON array of ids; rows come back in the order of ids. */
  readonly takeMany: Statement<LiveRow, [string, number, string]>;
  /** When the next job is due, in milliseconds: queue, now in seconds. */
  readonly nextDue: Statement<{ due: number | null }, [string, number]>;
  /** When the next claim expires, in seconds. */
  readonly nextExpiry: Statement<{ expires_at: number | null }, [string]>;
  readonly ack: Statement<never, [number, string]>;
  /** The attempts of a job that this claim still holds. */
  readonly held: Statement<{ attempts: number; max_attempts: number }, [number, string]>;
  /** Pending again: due in seconds and in milliseconds, id. */
  readonly reschedule: Statement<never, [number, number, number]>;
  readonly giveBack: Statement<never, [number, string]>;
  readonly copyToDead: Statement<never, [string | null, number, number]>;
  readonly remove: Statement<never, [number]>;
  /** job id, attempt, message, stack, now in milliseconds. */
  readonly insertError: Statement<never, [number, number, string, string | null, number]>;
  /** Makes expired claims pending: queue, now in seconds, at most so many. */
  readonly release: Statement<never, [string, number, number]>;
  readonly exhausted: Statement<{ id: number }, [string, number]>;
  readonly expired: Statement<{ id: number }, [string, number, number]>;
}

/** The distinct priorities of a queue's pending jobs, highest first, each found by one seek. */
const LEVELS = `
  RECURSIVE level(priority) AS (
    SELECT max(priority) FROM _honker_live WHERE queue = ?1 AND state = 'pending'
    UNION ALL
    SELECT (SELECT max(priority) FROM _honker_live WHERE queue = ?1 AND state = 'pending' AND priority < level.priority)
    FROM level WHERE level.priority IS NOT NULL
  )`;

export function prepareQueueStatements(connection: Connection): QueueStatements {
  const claimed = "id, queue, payload, priority, attempts, max_attempts, created_at";
  return {
    insert: connection.prepare(
      `INSERT INTO _honker_live (queue, payload, priority, run_at, due_ms, max_attempts, created_at, expires_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
    ),
    // Priority by priority: one ORDER BY over the queue would walk every delayed job of a higher priority. Not nested in
    // the UPDATE below, where SQLite would work out all of it before the LIMIT.
    pick: connection.prepare(
      `WITH ${LEVELS}
       SELECT job.id FROM level CROSS JOIN _honker_live AS job
       WHERE job.queue = ?1 AND job.state = 'pending' AND job.priority = level.priority AND job.due <= ?2
         AND job.attempts < job.max_attempts AND (job.expires_at IS NULL OR job.expires_at > ?3)
       LIMIT ?4`,
    ),
    take: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?1, claim_expires_at = ?2, attempts = attempts + 1
       WHERE id = ?3 RETURNING ${claimed}`,
    ),
    takeMany: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?1, claim_expires_at = ?2, attempts = attempts + 1
       WHERE id IN (SELECT value FROM json_each(?3)) RETURNING ${claimed}`,
    ),
    nextDue: connection.prepare(
      `WITH ${LEVELS}
       SELECT min((
         SELECT due FROM _honker_live
         WHERE queue = ?1 AND state = 'pending' AND priority = level.priority
           AND attempts < max_attempts AND (expires_at IS NULL OR expires_at > ?2)
         ORDER BY due LIMIT 1
       )) AS due FROM level`,
    ),
    nextExpiry: connection.prepare(
      "SELECT min(claim_expires_at) AS expires_at FROM _honker_live WHERE queue = ?1 AND state = 'processing'",
    ),
    ack: connection.prepare("DELETE FROM _honker_live WHERE id = ?1 AND worker_id = ?2"),
    held: connection.prepare(
      "SELECT attempts, max_attempts FROM _honker_live WHERE id = ?1 AND worker_id = ?2",
    ),
    reschedule: connection.prepare(
      `UPDATE _honker_live
       SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, run_at = ?1, due_ms = ?2 WHERE id = ?3`,
    ),
    giveBack: connection.prepare(
      `UPDATE _honker_live
       SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, attempts = attempts - 1
       WHERE id = ?1 AND worker_id = ?2`,
    ),
    copyToDead: connection.prepare(
      `INSERT OR REPLACE INTO _honker_dead
         (id, queue, payload, priority, run_at, attempts, max_attempts, last_error, created_at, died_at)
       SELECT id, queue, payload, priority, run_at, attempts, max_attempts, ?1, created_at, ?2
       FROM _honker_live WHERE id = ?3`,
    ),
    remove: connection.prepare("DELETE FROM _honker_live WHERE id = ?1"),
    insertError: connection.prepare(
      "INSERT INTO _honkbun_errors (job_id, attempt, message, stack, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    ),
    // The worker id stays: work that finishes late still counts as long as nobody has taken the job over.
    release: connection.prepare(
      `UPDATE _honker_live SET state = 'pending' WHERE id IN (
         SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at < ?2 LIMIT ?3)`,
    ),
    exhausted: connection.prepare(
      "SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'pending' AND attempts >= max_attempts LIMIT ?2",
    ),
    expired: connection.prepare(
      `SELECT id FROM _honker_live
       WHERE queue = ?1 AND state = 'pending' AND expires_at IS NOT NULL AND expires_at <= ?2 LIMIT ?3`,
    ),
  };
}
