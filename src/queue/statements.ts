import type { Connection, Statement } from "../sqlite/connection.ts";
import { UNCLAIMED, UNJOINED } from "../sqlite/flow-schema.ts";
import { CLAIM_ORDER, CLAIMABLE } from "../sqlite/schema.ts";

export interface LiveRow {
  readonly id: number;
  readonly payload: string;
  readonly priority: number;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly created_at: number;
  /** Epoch milliseconds. */
  readonly due: number;
  readonly turn_ms: number | null;
  readonly keep_result: number | null;
}

/** A job that has used an attempt, or is to be buried. */
export interface AttemptRow {
  readonly id: number;
  readonly queue: string;
  readonly attempts: number;
  readonly max_attempts: number;
}

/** When a queue wants attention: in milliseconds, but for claims and jobs that expire, which are in seconds. */
export interface DeadlineRow {
  readonly due: number | null;
  /** When the next job joins its group. */
  readonly joins_at: number | null;
  readonly claim_expires_at: number | null;
  readonly expires_at: number | null;
  /** 1 when there are jobs without attempts left, or claims without an expiry. */
  readonly has_stuck: number;
}

export interface QueueStatements {
  /** For each priority with due jobs, highest first, the id of the first: queue, now in milliseconds, at most so many. */
  readonly firsts: Statement<{ id: number }, [string, number, number]>;
  /**
   * Makes the first jobs of a priority ours, as far as they have not expired: queue, now in milliseconds, in seconds, at
   * most so many, the id of one, worker id, claim expiry in seconds. Rows come back in the order of ids.
   */
  readonly take: Statement<LiveRow, [string, number, number, number, number, string, number]>;
  /** The same for one job: id, now in seconds, worker id, claim expiry in seconds. */
  readonly takeOne: Statement<LiveRow, [number, number, string, number]>;
  /** When the next job is due, in milliseconds. */
  readonly nextDue: Statement<Pick<DeadlineRow, "due" | "joins_at">, [string]>;
  readonly deadline: Statement<DeadlineRow, [string]>;
  /** Notes of the grouped ones among jobs when they were claimed: now in milliseconds, ids as a JSON array. */
  readonly noteTurn: Statement<never, [number, string]>;
  /** Whether the job had a history: id, worker id. */
  readonly ack: Statement<{ has_history: number | null }, [number, string]>;
  /** Those of a JSON array that were ours: ids, worker id. */
  readonly ackMany: Statement<{ id: number; has_history: number | null }, [string, string]>;
  /** The same, of those that have no history. */
  readonly ackPlain: Statement<never, [string, string]>;
  /** Copies a job that is ours: when it was started and now in milliseconds, when to forget it in seconds, id, worker id. */
  readonly complete: Statement<never, [number, number, number | null, number, string]>;
  /** job id, value, now in seconds, when to forget it in seconds. */
  readonly saveResult: Statement<never, [number, string | null, number, number | null]>;
  /** The attempts of a job that this claim still holds. */
  readonly held: Statement<AttemptRow, [number, string]>;
  /** Whoever holds the job. */
  readonly holder: Statement<{ worker_id: string | null }, [number]>;
  /** Claimed until then at least, in seconds; ids as a JSON array, worker id. */
  readonly renew: Statement<{ id: number }, [number, string, string]>;
  /** Pending again: due in seconds and in milliseconds, id. */
  readonly reschedule: Statement<never, [number, number, number]>;
  readonly giveBack: Statement<never, [number, string]>;
  /** Pending again, without using the attempt: due in seconds and in milliseconds, id, worker id. */
  readonly snooze: Statement<never, [number, number, number, string]>;
  /** value, id, worker id. */
  readonly saveProgress: Statement<never, [string, number, string]>;
  /** Errors or progress of the job are stored. */
  readonly markHistory: Statement<never, [number]>;
  /** ids as a JSON array. */
  readonly forgetErrors: Statement<never, [string]>;
  readonly forgetProgress: Statement<never, [string]>;
  /** Makes expired claims pending: queue, now in seconds, at most so many. */
  readonly release: Statement<AttemptRow, [string, number, number]>;
  /** Makes claims of a handle pending: handle, at most so many. */
  readonly releaseHandle: Statement<AttemptRow, [string, number]>;
  readonly heldByHandle: Statement<{ n: number }, [string]>;
  readonly exhausted: Statement<AttemptRow, [string, number]>;
  readonly expired: Statement<AttemptRow, [string, number, number]>;
}

/** Jobs of a queue that wait for their turn, and those that have had all: each the condition of an index. */
export const WAITING: string = `queue = ?1 AND ${CLAIMABLE}`;
export const EXHAUSTED = "queue = ?1 AND state = 'pending' AND attempts >= max_attempts";

/** The distinct priorities of those jobs, highest first, each found by one seek. */
export const LEVELS: string = `
  RECURSIVE level(priority) AS (
    SELECT max(priority) FROM _honker_live WHERE ${WAITING}
    UNION ALL
    SELECT (SELECT max(priority) FROM _honker_live WHERE ${WAITING} AND priority < level.priority)
    FROM level WHERE level.priority IS NOT NULL
  )`;

const LARGEST = Number.MAX_SAFE_INTEGER;
const TAKEN = "id, payload, priority, attempts, max_attempts, created_at, due, turn_ms, keep_result";

const NEXT_DUE = `(SELECT due FROM _honker_live WHERE ${WAITING} AND priority = level.priority ORDER BY due LIMIT 1)`;

const JOINS_AT = `(SELECT min(due) FROM _honker_live WHERE queue = ?1 AND ${UNJOINED})`;

/** What a job's row is copied by, where it ends. Whole numbers only: honker could not read others. */
export const COPIED =
  "id, queue, payload, CAST(priority AS INTEGER), CAST(attempts AS INTEGER), CAST(max_attempts AS INTEGER), CAST(created_at AS INTEGER)";

export function prepareQueueStatements(connection: Connection): QueueStatements {
  // Jobs that have expired are not left out here: whoever finds them in front frees them, instead of passing over them
  // again and again.
  const due = `${WAITING} AND due <= ?2 AND id BETWEEN ${-LARGEST} AND ${LARGEST}`;
  const wanted = "id IN (SELECT value FROM json_each(?1))";
  return {
    // Priority by priority: one ORDER BY over the queue would walk every delayed job of a higher priority.
    firsts: connection.prepare(
      `WITH ${LEVELS}
       SELECT first.id FROM level CROSS JOIN _honker_live AS first ON first.id = (
         SELECT id FROM _honker_live WHERE ${due} AND priority = level.priority ORDER BY ${CLAIM_ORDER} LIMIT 1)
       LIMIT ?3`,
    ),
    // The priority is not read and given back: what somebody has written by hand may be more than a number can hold.
    take: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?6, claim_expires_at = ?7, attempts = attempts + 1
       WHERE id IN (
         SELECT id FROM _honker_live
         WHERE ${due} AND priority = (SELECT priority FROM _honker_live WHERE id = ?5) ORDER BY ${CLAIM_ORDER} LIMIT ?4)
       AND (expires_at IS NULL OR expires_at > ?3)
       RETURNING ${TAKEN}`,
    ),
    takeOne: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?3, claim_expires_at = ?4, attempts = attempts + 1
       WHERE id = ?1 AND (expires_at IS NULL OR expires_at > ?2) RETURNING ${TAKEN}`,
    ),
    nextDue: connection.prepare(
      `WITH ${LEVELS} SELECT (SELECT min(${NEXT_DUE}) FROM level) AS due, ${JOINS_AT} AS joins_at`,
    ),
    // A text sorts after all numbers.
    deadline: connection.prepare(
      `WITH ${LEVELS}
       SELECT (SELECT min(${NEXT_DUE}) FROM level) AS due,
         (SELECT min(claim_expires_at) FROM _honker_live
          WHERE queue = ?1 AND state = 'processing' AND claim_expires_at < '') AS claim_expires_at,
         ${JOINS_AT} AS joins_at,
         (SELECT min(expires_at) FROM _honker_live
          WHERE queue = ?1 AND state <> 'processing' AND expires_at IS NOT NULL AND expires_at < '') AS expires_at,
         EXISTS (SELECT 1 FROM _honker_live WHERE ${EXHAUSTED})
         OR EXISTS (SELECT 1 FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at IS NULL)
         OR EXISTS (SELECT 1 FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at >= '')
           AS has_stuck`,
    ),
    noteTurn: connection.prepare(
      `UPDATE _honker_live SET turn_ms = ?1
       WHERE id IN (SELECT value FROM json_each(?2)) AND group_key IS NOT NULL`,
    ),
    ack: connection.prepare(
      "DELETE FROM _honker_live WHERE id = ?1 AND worker_id = ?2 RETURNING has_history",
    ),
    ackMany: connection.prepare(
      `DELETE FROM _honker_live WHERE ${wanted} AND worker_id = ?2 RETURNING id, has_history`,
    ),
    ackPlain: connection.prepare(
      `DELETE FROM _honker_live WHERE ${wanted} AND worker_id = ?2 AND has_history IS NULL`,
    ),
    complete: connection.prepare(
      `INSERT OR REPLACE INTO _honkbun_completed
         (id, queue, payload, priority, attempts, max_attempts, created_at, due, started_at, completed_at,
          expires_at)
       SELECT ${COPIED}, CAST(due AS INTEGER), ?1, ?2, ?3 FROM _honker_live WHERE id = ?4 AND worker_id = ?5`,
    ),
    saveResult: connection.prepare(
      "INSERT OR REPLACE INTO _honker_results (job_id, value, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
    ),
    held: connection.prepare(
      "SELECT id, queue, attempts, max_attempts FROM _honker_live WHERE id = ?1 AND worker_id = ?2",
    ),
    holder: connection.prepare("SELECT worker_id FROM _honker_live WHERE id = ?1"),
    // A claim that has expired, and that nobody has taken over, is held again, unless others have its place now.
    renew: connection.prepare(
      `UPDATE _honker_live SET state = 'processing', claim_expires_at = max(claim_expires_at, ?1)
       WHERE id IN (SELECT value FROM json_each(?2)) AND worker_id = ?3 AND (
         state = 'processing' OR (state = 'pending' AND coalesce((
           SELECT concurrency > (
             SELECT count(*) FROM _honker_live AS other WHERE other.queue = said.name AND other.state = 'processing')
           FROM _honkbun_queues AS said WHERE said.name = _honker_live.queue), 1)))
       RETURNING id`,
    ),
    reschedule: connection.prepare(
      `UPDATE _honker_live
       SET state = ${UNCLAIMED}, worker_id = NULL, claim_expires_at = NULL, run_at = ?1, due_ms = ?2 WHERE id = ?3`,
    ),
    giveBack: connection.prepare(
      `UPDATE _honker_live
       SET state = ${UNCLAIMED}, worker_id = NULL, claim_expires_at = NULL, attempts = attempts - 1
       WHERE id = ?1 AND worker_id = ?2`,
    ),
    snooze: connection.prepare(
      `UPDATE _honker_live
       SET state = ${UNCLAIMED}, worker_id = NULL, claim_expires_at = NULL, attempts = attempts - 1,
         run_at = ?1, due_ms = ?2
       WHERE id = ?3 AND worker_id = ?4`,
    ),
    saveProgress: connection.prepare(
      `INSERT INTO _honkbun_progress (job_id, value)
       SELECT id, ?1 FROM _honker_live WHERE id = ?2 AND worker_id = ?3
       ON CONFLICT (job_id) DO UPDATE SET value = excluded.value, revision = revision + 1`,
    ),
    markHistory: connection.prepare(
      "UPDATE _honker_live SET has_history = 1 WHERE id = ?1 AND has_history IS NOT 1",
    ),
    forgetErrors: connection.prepare(
      "DELETE FROM _honkbun_errors WHERE job_id IN (SELECT value FROM json_each(?1))",
    ),
    forgetProgress: connection.prepare(
      "DELETE FROM _honkbun_progress WHERE job_id IN (SELECT value FROM json_each(?1))",
    ),
    // The worker id stays: work that finishes late still counts as long as nobody has taken the job over.
    release: connection.prepare(
      `UPDATE _honker_live SET state = ${UNCLAIMED} WHERE id IN (
         SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at < ?2
         UNION ALL
         SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at IS NULL
         UNION ALL
         SELECT id FROM _honker_live WHERE queue = ?1 AND state = 'processing' AND claim_expires_at >= ''
         LIMIT ?3)
       RETURNING id, queue, attempts, max_attempts`,
    ),
    // In the order of the index on claims, so that only those are looked at.
    releaseHandle: connection.prepare(
      `UPDATE _honker_live SET state = ${UNCLAIMED} WHERE id IN (
         SELECT id FROM _honker_live WHERE state = 'processing' AND instr(worker_id, '~' || ?1 || '.') > 0
         ORDER BY queue, claim_expires_at LIMIT ?2)
       RETURNING id, queue, attempts, max_attempts`,
    ),
    heldByHandle: connection.prepare(
      `SELECT 1 AS n FROM _honker_live WHERE state = 'processing' AND instr(worker_id, '~' || ?1 || '.') > 0 LIMIT 1`,
    ),
    exhausted: connection.prepare(
      `SELECT id, queue, attempts, max_attempts FROM _honker_live WHERE ${EXHAUSTED} LIMIT ?2`,
    ),
    expired: connection.prepare(
      `SELECT id, queue, attempts, max_attempts FROM _honker_live
       WHERE queue = ?1 AND state <> 'processing' AND expires_at IS NOT NULL AND expires_at <= ?2 LIMIT ?3`,
    ),
  };
}
