import { toUnixSeconds } from "../clock.ts";
import type { JobEvent } from "../events.ts";
import { messageOf, stackOf } from "../payload.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";
import { isTurnToPrune, pruneDead, readKeepDead } from "./retention.ts";
import { type AttemptRow, COPIED } from "./statements.ts";

/** So many jobs are buried in one transaction, or payloads of so many bytes. By the clock it would differ from run to run. */
const PORTION = 128;
const PORTION_BYTES = 1_000_000;
/** Those found at once. */
const GLANCE = 16;

/** How an attempt that failed goes on. */
export type Failure = "job:retried" | "job:dead";

/** Called for each job that a sweep has found. */
export type OnSwept = (event: Failure, job: AttemptRow, error: Error) => void;

/** What a sweep has found, for the events that follow its commit. */
export interface Swept {
  readonly event: Failure;
  readonly job: JobEvent;
}

/** Collects what a sweep finds. */
export function collectSwept(): { readonly list: readonly Swept[]; readonly onSwept: OnSwept } {
  const list: Swept[] = [];
  return {
    list,
    onSwept: (event, { id, queue, attempts: attempt }, error) =>
      void list.push({ event, job: { id, queue, attempt, error } }),
  };
}

/**
 * Moves jobs of one queue to the dead letters, and with them those that were to run after them.
 * @throws NotStoredError
 */
export function buryJobs(
  connection: Connection,
  jobs: readonly AttemptRow[],
  reason: string,
  now: number,
  onSwept: OnSwept,
): void {
  move(connection, jobs, reason, now);
  buryDependents(connection, now, onSwept);
}

/** Buries jobs of all queues that were to run after others which have failed. False when there are more. */
export function buryDependents(connection: Connection, now: number, onSwept: OnSwept): boolean {
  const { failedDependents } = connection.use(prepareBurialStatements);
  let [count, size] = [0, 0];
  for (;;) {
    const failed = failedDependents.all(GLANCE);
    if (failed.length === 0) return true;
    for (const { parents, bytes, ...job } of failed) {
      if (count >= PORTION || size >= PORTION_BYTES) return false;
      const error = new Error(`${parents} buried or cancelled, after which this one was to run`);
      recordError(connection, job, error, now);
      move(connection, [job], error.message, now); // and so those have failed that were to run after it
      onSwept("job:dead", job, error);
      count += 1;
      size += bytes;
    }
  }
}

/** Jobs that somebody has given an id which no number here can hold: nobody could ever settle them. */
export function buryUnsafe(connection: Connection, queue: string, now: number): void {
  const { copyUnsafe, removeUnsafe } = connection.use(prepareBurialStatements);
  const reason = `its id is more than a number can hold: beyond ${LARGEST}`;
  if (copyUnsafe.run(queue, reason, toUnixSeconds(now)).changes > 0) removeUnsafe.run(queue);
}

/** Keeps what has ended an attempt, or the job before its first. */
export function recordError(
  connection: Connection,
  { id, attempts }: Pick<AttemptRow, "id" | "attempts">,
  error: unknown,
  now: number,
): void {
  if (error === undefined) return;
  const { insertError, markHistory } = connection.use(prepareBurialStatements);
  insertError.run(id, attempts, messageOf(error), stackOf(error), now);
  markHistory.run(id);
}

/** @throws NotStoredError, or those that stay would be found for ever */
function move(connection: Connection, jobs: readonly AttemptRow[], reason: string, now: number): void {
  const [first] = jobs;
  if (first === undefined) return;
  const { copyToDead, remove, stay } = connection.use(prepareBurialStatements);
  const ids = JSON.stringify(jobs.map(({ id }) => id));
  assertStored("_honker_dead", copyToDead.run(reason, toUnixSeconds(now), ids).changes >= jobs.length);
  // A trigger may have deleted them before.
  assertStored("_honker_live", remove.run(ids).changes >= jobs.length || stay.get(ids) === null);
  const kept = readKeepDead(connection, first.queue);
  if (kept !== null && isTurnToPrune(kept, first.id)) pruneDead(connection, first.queue, kept, now);
}

interface BurialStatements {
  /** reason, now in seconds, ids as a JSON array. */
  readonly copyToDead: Statement<never, [string, number, string]>;
  /** ids as a JSON array. */
  readonly remove: Statement<never, [string]>;
  readonly stay: Statement<{ id: number }, [string]>;
  /** The same for ids that JavaScript cannot hold: queue, reason, now in seconds; queue. */
  readonly copyUnsafe: Statement<never, [string, string, number]>;
  readonly removeUnsafe: Statement<never, [string]>;
  /** So many at most, each with the first of those that failed: "job 1 was", "jobs 1, 2 were". */
  readonly failedDependents: Statement<
    AttemptRow & { readonly parents: string; readonly bytes: number },
    [number]
  >;
  /** job id, attempt, message, stack, now in milliseconds. */
  readonly insertError: Statement<never, [number, number, string, string | null, number]>;
  /** Errors or progress of the job are stored. */
  readonly markHistory: Statement<never, [number]>;
}

const LARGEST = Number.MAX_SAFE_INTEGER;
/** Jobs that were to run after others which have failed, but for those that nobody can tell apart. */
export const FAILED_DEPENDENTS: string = `FROM _honkbun_dependencies AS failed
  WHERE outcome = 2 AND child BETWEEN ${-LARGEST} AND ${LARGEST}
    AND EXISTS (SELECT 1 FROM _honker_live WHERE id = failed.child)`;
const UNSAFE = `(id > ${LARGEST} OR id < ${-LARGEST}) AND queue = ?1`;

function prepareBurialStatements(connection: Connection): BurialStatements {
  return {
    copyToDead: connection.prepare(copyToDead("id IN (SELECT value FROM json_each(?3))", "?1", "?2")),
    remove: connection.prepare("DELETE FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1))"),
    stay: connection.prepare(
      "SELECT id FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1)) LIMIT 1",
    ),
    copyUnsafe: connection.prepare(copyToDead(UNSAFE, "?2", "?3")),
    removeUnsafe: connection.prepare(`DELETE FROM _honker_live WHERE ${UNSAFE}`),
    failedDependents: connection.prepare(
      `SELECT live.id, live.queue, live.attempts, live.max_attempts, coalesce(octet_length(live.payload), 0) AS bytes,
         (SELECT iif(count(*) = 1, 'job ' || min(parent) || ' was', 'jobs ' || group_concat(parent, ', ') || ' were') FROM (
            SELECT parent FROM _honkbun_dependencies WHERE child = live.id AND outcome = 2 ORDER BY parent LIMIT 5
          )) AS parents
       FROM (SELECT DISTINCT child ${FAILED_DEPENDENTS} LIMIT ?1) AS failed
       CROSS JOIN _honker_live AS live ON live.id = failed.child`,
    ),
    insertError: connection.prepare(
      "INSERT INTO _honkbun_errors (job_id, attempt, message, stack, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    ),
    markHistory: connection.prepare(
      "UPDATE _honker_live SET has_history = 1 WHERE id = ?1 AND has_history IS NOT 1",
    ),
  };
}

function copyToDead(where: string, reason: string, now: string): string {
  return `INSERT OR REPLACE INTO _honker_dead
      (id, queue, payload, priority, attempts, max_attempts, created_at, run_at, last_error, died_at)
    SELECT ${COPIED}, CAST(run_at AS INTEGER), ${reason}, ${now} FROM _honker_live WHERE ${where}`;
}
