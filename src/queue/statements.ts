import type { Connection, Statement } from "../sqlite/connection.ts";

export interface LiveRow {
  readonly id: number;
  readonly payload: string;
  readonly priority: number;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly created_at: number;
  /** Epoch milliseconds. */
  readonly due: number;
  readonly keep_result: number | null;
  /** 1 when errors or progress may be stored apart from the row, though no attempt has failed. */
  readonly has_history: number | null;
}

/** A job that has used an attempt, or is to be buried. */
export interface AttemptRow {
  readonly id: number;
  readonly attempts: number;
  readonly max_attempts: number;
}

export interface QueueStatements {
  /** Priorities of claimable jobs, highest first: queue, now in milliseconds, in seconds, at most so many. */
  readonly claimable: Statement<{ priority: number }, [string, number, number, number]>;
  /**
   * Makes the first jobs of a priority ours: queue, now in milliseconds, in seconds, at most so many, priority, worker id,
   * claim expiry in seconds. Rows come back in the order of ids.
   */
  readonly take: Statement<LiveRow, [string, number, number, number, number, string, number]>;
  /** When the next job is due, in milliseconds: queue, now in seconds. */
  readonly nextDue: Statement<{ due: number | null }, [string, number]>;
  readonly isPaused: Statement<{ paused: number }, [string]>;
  /** When the next claim expires, in seconds. */
  readonly nextExpiry: Statement<{ expires_at: number | null }, [string]>;
  readonly ack: Statement<never, [number, string]>;
  /** The ids of those of a JSON array that were ours: ids, worker id. */
  readonly ackMany: Statement<{ id: number }, [string, string]>;
  /** Copies a job that is ours: now in milliseconds, when to forget it in seconds, id, worker id. */
  readonly complete: Statement<never, [number, number | null, number, string]>;
  /** job id, value, now in seconds, when to forget it in seconds. */
  readonly saveResult: Statement<never, [number, string | null, number, number | null]>;
  /** The attempts of a job that this claim still holds. */
  readonly held: Statement<AttemptRow, [number, string]>;
  /** Claimed until then at least, in seconds; ids as a JSON array, worker id. */
  readonly renew: Statement<{ id: number }, [number, string, string]>;
  /** Pending again: due in seconds and in milliseconds, id. */
  readonly reschedule: Statement<never, [number, number, number]>;
  readonly giveBack: Statement<never, [number, string]>;
  /** Pending again, without using the attempt: due in seconds and in milliseconds, id, worker id. */
  readonly snooze: Statement<never, [number, number, number, string]>;
  readonly copyToDead: Statement<never, [string | null, number, number]>;
  readonly remove: Statement<never, [number]>;
  /** value, id, worker id. */
  readonly saveProgress: Statement<never, [string, number, string]>;
  /** job id, attempt, message, stack, now in milliseconds. */
  readonly insertError: Statement<never, [number, number, string, string | null, number]>;
  readonly forgetErrors: Statement<never, [number]>;
  readonly forgetProgress: Statement<never, [number]>;
  /** Makes expired claims pending: queue, now in seconds, at most so many. */
  readonly release: Statement<AttemptRow, [string, number, number]>;
  readonly exhausted: Statement<AttemptRow, [string, number]>;
  readonly expired: Statement<AttemptRow, [string, number, number]>;
}

/** The distinct priorities of a queue's pending jobs, highest first, each found by one seek. */
export const LEVELS = `
  RECURSIVE level(priority) AS (
    SELECT max(priority) FROM _honker_live WHERE queue = ?1 AND state = 'pending'
    UNION ALL
    SELECT (SELECT max(priority) FROM _honker_live WHERE queue = ?1 AND state = 'pending' AND priority < level.priority)
    FROM level WHERE level.priority IS NOT NULL
  )`;

/** What a job's row is copied by, where it ends. Whole numbers only: honker could not read others. */
export const COPIED =
  "id, queue, payload, CAST(priority AS INTEGER), CAST(attempts AS INTEGER), CAST(max_attempts AS INTEGER), CAST(created_at AS INTEGER)";

export function prepareQueueStatements(connection: Connection): QueueStatements {
  const claimable = `queue = ?1 AND state = 'pending' AND due <= ?2
    AND attempts < max_attempts AND (expires_at IS NULL OR expires_at > ?3)`;
  return {
    // Priority by priority: one ORDER BY over the queue would walk every delayed job of a higher priority.
    claimable: connection.prepare(
      `WITH ${LEVELS}
       SELECT priority FROM level
       WHERE EXISTS (SELECT 1 FROM _honker_live WHERE priority = level.priority AND ${claimable}) LIMIT ?4`,
    ),
    take: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?6, claim_expires_at = ?7, attempts = attempts + 1
       WHERE id IN (
         SELECT id FROM _honker_live WHERE priority = ?5 AND ${claimable} ORDER BY due, id LIMIT ?4)
       RETURNING id, payload, priority, attempts, max_attempts, created_at, due, keep_result, has_history`,
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
    isPaused: connection.prepare("SELECT paused FROM _honkbun_queues WHERE name = ?1 AND paused"),
    nextExpiry: connection.prepare(
      "SELECT min(claim_expires_at) AS expires_at FROM _honker_live WHERE queue = ?1 AND state = 'processing'",
    ),
    ack: connection.prepare("DELETE FROM _honker_live WHERE id = ?1 AND worker_id = ?2"),
    ackMany: connection.prepare(
      `DELETE FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1)) AND worker_id = ?2 RETURNING id`,
    ),
    complete: connection.prepare(
      `INSERT OR REPLACE INTO _honkbun_completed
         (id, queue, payload, priority, attempts, max_attempts, created_at, due, completed_at, expires_at)
       SELECT ${COPIED}, CAST(due AS INTEGER), ?1, ?2 FROM _honker_live WHERE id = ?3 AND worker_id = ?4`,
    ),
    saveResult: connection.prepare(
      "INSERT OR REPLACE INTO _honker_results (job_id, value, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
    ),
    held: connection.prepare(
      "SELECT id, attempts, max_attempts FROM _honker_live WHERE id = ?1 AND worker_id = ?2",
    ),
    // A claim that has expired, and that nobody has taken over, is held again.
    renew: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', claim_expires_at = max(claim_expires_at, ?1)
       WHERE id IN (SELECT value FROM json_each(?2)) AND worker_id = ?3 RETURNING id`,
    ),
    reschedule: connection.prepare(
      `UPDATE _honker_live
       SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, run_at = ?1, due_ms = ?2 WHERE id = ?3`,
    ),
    giveBack: connection.prepare(
      `UPDATE _honker_live
       SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, attempts = attempts - 1, has_history = 1
       WHERE id = ?1 AND worker_id = ?2`,
    ),
    snooze: connection.prepare(
      `UPDATE _honker_live
       SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, attempts = attempts - 1, has_history = 1,
         run_at = ?1, due_ms = ?2
       WHERE id = ?3 AND worker_id = ?4`,
    ),
    copyToDead: connection.prepare(
      `INSERT OR REPLACE INTO _honker_dead
         (id, queue, payload, priority, attempts, max_attempts, created_at, run_at, last_error, died_at)
       SELECT ${COPIED}, CAST(run_at AS INTEGER), ?1, ?2 FROM _honker_live WHERE id = ?3`,
    ),
    remove: connection.prepare("DELETE FROM _honker_live WHERE id = ?1"),
    saveProgress: connection.prepare(
      `INSERT INTO _honkbun_progress (job_id, value)
       SELECT id, ?1 FROM _honker_live WHERE id = ?2 AND worker_id = ?3
       ON CONFLICT (job_id) DO UPDATE SET value = excluded.value, revision = revision + 1`,
    ),
    insertError: connection.prepare(
      "INSERT INTO _honkbun_errors (job_id, attempt, message, stack, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    ),
    forgetErrors: connection.prepare("DELETE FROM _honkbun_errors WHERE job_id = ?1"),
    forgetProgress: connection.prepare("DELETE FROM _honkbun_progress WHERE job_id = ?1"),
    // The worker id stays: work that finishes late still counts as long as nobody has taken the job over.
    release: connection.prepare(
      `UPDATE _honker_live SET state = 'pending' WHERE id IN (
         SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at < ?2 LIMIT ?3)
       RETURNING id, attempts, max_attempts`,
    ),
    exhausted: connection.prepare(
      `SELECT id, attempts, max_attempts FROM _honker_live
       WHERE queue = ?1 AND state = 'pending' AND attempts >= max_attempts LIMIT ?2`,
    ),
    expired: connection.prepare(
      `SELECT id, attempts, max_attempts FROM _honker_live
       WHERE queue = ?1 AND state = 'pending' AND expires_at IS NOT NULL AND expires_at <= ?2 LIMIT ?3`,
    ),
  };
}
