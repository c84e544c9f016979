import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { UNJOINED } from "../sqlite/flow-schema.ts";
import { buryDependents, type OnSwept } from "./burial.ts";
import { COPIED, EXHAUSTED, WAITING } from "./statements.ts";

// What is done to jobs from outside, by whoever knows their ids, and to whole queues.

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
export function cancelJob(
  connection: Connection,
  queue: string,
  id: number,
  now: number,
  onSwept: OnSwept,
): boolean {
  const { cancel, remove } = connection.use(prepareChangeStatements);
  if (cancel.run(queue, id, now).changes === 0) return false;
  remove.run(queue, id);
  buryDependents(connection, now, onSwept);
  return true;
}

/** Cancels every job of the queue that is not claimed. Returns how many there were. */
export function clearQueue(connection: Connection, queue: string, now: number, onSwept: OnSwept): number {
  let count = 0;
  for (const { cancelAll, removeAll } of connection.use(prepareChangeStatements).unclaimed) {
    cancelAll.run(queue, now);
    count += removeAll.run(queue).changes;
  }
  buryDependents(connection, now, onSwept);
  return count;
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
}

function prepareChangeStatements(connection: Connection): ChangeStatements {
  const one = "queue = ?1 AND id = ?2";
  const cancel = (where: string, now: string): string =>
    `INSERT OR REPLACE INTO _honkbun_cancelled
       (id, queue, payload, priority, attempts, max_attempts, created_at, due, cancelled_at)
     SELECT ${COPIED}, CAST(due AS INTEGER), ${now} FROM _honker_live WHERE ${where}`;
  return {
    // With another payload it is another job: whoever held a claim on it that expired can no longer end it.
    update: connection.prepare(
      `UPDATE _honker_live SET payload = coalesce(?3, payload), priority = coalesce(?4, priority),
         run_at = coalesce(?5, run_at), due_ms = coalesce(?6, due_ms), worker_id = iif(?3 IS NULL, worker_id, NULL)
       WHERE ${one} AND state <> 'processing'`,
    ),
    cancel: connection.prepare(cancel(one, "?3")),
    remove: connection.prepare(`DELETE FROM _honker_live WHERE ${one}`),
    // First those that wait for others, which would be let go by the end of those.
    unclaimed: [
      "queue = ?1 AND state = 'waiting'",
      "queue = ?1 AND state = 'blocked'",
      `queue = ?1 AND ${UNJOINED}`,
      WAITING,
      EXHAUSTED,
    ].map((where) => ({
      cancelAll: connection.prepare(cancel(where, "?2")),
      removeAll: connection.prepare(`DELETE FROM _honker_live WHERE ${where}`),
    })),
  };
}
