import type { Clock } from "../clock.ts";
import { toUnixSeconds } from "../clock.ts";
import { type Duration, show, toMilliseconds } from "../duration.ts";
import type { AttemptError } from "../errors.ts";
import { readPage } from "../options.ts";
import { readStored, type Schema } from "../payload.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { assertStored } from "../sqlite/stored.ts";
import { standInFor } from "./flow-insertion.ts";
import type { UniqueTerms } from "./flow-options.ts";
import { readErrors, withLastError } from "./job-info.ts";
import type { Values } from "./new-job.ts";
import { forgetHistory } from "./operations.ts";

/** A job that was buried. */
export interface DeadJob<P> {
  readonly id: number;
  /** As the queue's schema puts it out; what does not fit it, as it is stored. */
  readonly payload: P;
  readonly attempts: number;
  /** To the second. */
  readonly diedAt: Date;
  /** One for each attempt that failed, in order; and what ended the job, where that was something else. */
  readonly errors: readonly AttemptError[];
}

/** What the dead letters need of their queue. */
export interface DeadLettersContext {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly queue: string;
  readonly schema: Schema | undefined;
  /** For jobs that are retried; milliseconds, 0 for ever, null not at all. */
  readonly keepResult: number | null;
}

/** The buried jobs of one queue. */
export class DeadLetters<P> {
  readonly #context: DeadLettersContext;

  /** @internal */
  constructor(context: DeadLettersContext) {
    this.#context = context;
  }

  /** Buried jobs in the order of ids: at most `limit` (default 100), those `after` an id. */
  list(options?: { readonly limit?: number | undefined; readonly after?: number | undefined }): DeadJob<P>[] {
    const { pool, queue, schema } = this.#context;
    const { limit, after } = readPage("dead.list", options);
    return pool.read((connection) => {
      const rows = connection.use(prepareDeadStatements).list.all(queue, after, limit);
      const errors = readErrors(
        connection,
        rows.map(({ id }) => id),
      );
      return rows.map((row) => ({
        id: row.id,
        payload: readStored(row.payload, schema) as P,
        attempts: row.attempts,
        diedAt: new Date(row.died_at * 1_000),
        errors: withLastError(errors.get(row.id) ?? [], { ...row, ended_at: row.died_at * 1_000 }),
      }));
    });
  }

  /**
   * Makes buried jobs ready again, with all their attempts, under the same ids; the errors so far are kept. Returns how
   * many there were. Where another job has the unique key of one, that one's `onDuplicate` decides: it stays buried, or
   * replaces the other, which then stands for it. Joins the open `db.transaction`.
   * @throws TypeError, DuplicateJobError, BusyError, AmbiguousTransactionError
   */
  retry(which: "all" | readonly number[]): number {
    const { pool, clock, queue, keepResult } = this.#context;
    const ids = readWhich("dead.retry", which);
    const now = clock();
    return pool.writeAll(undefined, (connection) => {
      const { keyed, revive, removeRevived } = actionsOn(connection, ids);
      let count = 0;
      for (const job of keyed.all(queue, ids)) {
        if (reviveKeyed(connection, job, now, keepResult)) count++;
      }
      const revived = revive.run(queue, ids, toUnixSeconds(now), now, keepResult).changes;
      const removed = removeRevived.run(queue, ids).changes;
      assertStored("_honker_live", revived >= removed);
      return count + removed;
    });
  }

  /**
   * Deletes buried jobs and their errors. Returns how many there were. Joins the open `db.transaction`.
   * @throws TypeError, BusyError, AmbiguousTransactionError
   */
  purge(which: "all" | readonly number[] | { readonly olderThan: Duration }): number {
    const { pool, clock, queue } = this.#context;
    const age = readAge(which);
    const ids = age === null ? readWhich("dead.purge", which as "all" | readonly number[]) : null;
    const before = age === null ? ALL_TIME : toUnixSeconds(clock() - age);
    return pool.writeAll(undefined, (connection) => {
      const { forgetErrors, forgetProgress, remove } = actionsOn(connection, ids);
      forgetErrors.run(queue, ids, before);
      forgetProgress.run(queue, ids, before);
      return remove.run(queue, ids, before).changes;
    });
  }
}

/** Makes a job ready that has a unique key, unless another one stands for it. */
function reviveKeyed(connection: Connection, job: KeyedRow, now: number, keepResult: number | null): boolean {
  const { reviveOne, removeOne } = connection.use(prepareDeadStatements);
  const { id, unique_key, unique_until_start, on_duplicate } = job;
  const unique: UniqueTerms = {
    key: unique_key,
    untilStart: unique_until_start === 1,
    until: null,
    onDuplicate: on_duplicate === 1 ? "replace" : on_duplicate === 2 ? "reject" : "keep",
  };
  const seconds = toUnixSeconds(now);
  const values: Values = [
    job.queue,
    job.payload,
    job.priority,
    seconds,
    now,
    job.max_attempts,
    job.created_at,
    null,
    job.keep_result ?? keepResult,
  ];
  for (;;) {
    if (reviveOne.run(id, seconds, now, keepResult).changes > 0) {
      assertStored("_honker_dead", removeOne.run(id).changes > 0);
      return true;
    }
    const other = standInFor(connection, values, unique, now);
    if (other === null) continue; // the key is free now
    if (!other.isReplaced) return false;
    assertStored("_honker_dead", removeOne.run(id).changes > 0);
    forgetHistory(connection, [id]);
    return true;
  }
}

function actionsOn(connection: Connection, ids: string | null): DeadActions {
  const { some, all } = connection.use(prepareDeadStatements);
  return ids === null ? all : some;
}

const ALL_TIME = Number.MAX_SAFE_INTEGER;

/** A JSON array of ids, or null for all. */
function readWhich(call: string, which: "all" | readonly number[]): string | null {
  if (which === "all") return null;
  if (Array.isArray(which) && [...which].every((id) => Number.isSafeInteger(id)))
    return JSON.stringify(which);
  throw new TypeError(`${call}: which must be "all" or an array of ids, got ${show(which)}`);
}

function readAge(which: unknown): number | null {
  if (typeof which !== "object" || which === null || !("olderThan" in which)) return null;
  return toMilliseconds(which.olderThan as Duration, "dead.purge: olderThan");
}

interface DeadRow {
  readonly id: number;
  readonly payload: string;
  readonly attempts: number;
  readonly last_error: string | null;
  readonly died_at: number;
}

/** A job that has a unique key. */
interface KeyedRow {
  readonly id: number;
  readonly queue: string;
  readonly payload: string;
  readonly priority: number;
  readonly max_attempts: number;
  readonly created_at: number;
  readonly keep_result: number | null;
  readonly unique_key: string;
  readonly unique_until_start: number | null;
  readonly on_duplicate: number | null;
}

/** What is done to all dead letters of a queue, or to some. */
interface DeadActions {
  /** Those that have unique keys: queue, ids as a JSON array. */
  readonly keyed: Statement<KeyedRow, [string, string | null]>;
  /** Those without: queue, ids as a JSON array, now in seconds and in milliseconds, how long a result is kept. */
  readonly revive: Statement<never, [string, string | null, number, number, number | null]>;
  readonly removeRevived: Statement<never, [string, string | null]>;
  /** queue, ids, those that died before then, in seconds. */
  readonly remove: Statement<never, [string, string | null, number]>;
  readonly forgetErrors: Statement<never, [string, string | null, number]>;
  readonly forgetProgress: Statement<never, [string, string | null, number]>;
}

interface DeadStatements {
  /** queue, after an id, at most so many. */
  readonly list: Statement<DeadRow, [string, number, number]>;
  readonly some: DeadActions;
  readonly all: DeadActions;
  /** id, now in seconds and in milliseconds, how long a result is kept. */
  readonly reviveOne: Statement<never, [number, number, number, number | null]>;
  readonly removeOne: Statement<never, [number]>;
}

function prepareDeadStatements(connection: Connection): DeadStatements {
  const columns = `dead.id, queue, payload, CAST(priority AS INTEGER) AS priority,
    max(CAST(max_attempts AS INTEGER), 1) AS max_attempts, CAST(created_at AS INTEGER) AS created_at, keep_result,
    unique_key, unique_until_start, on_duplicate, group_key`;
  const letters = (where: string): string =>
    `(SELECT ${columns} FROM _honker_dead AS dead LEFT JOIN _honkbun_buried AS buried ON buried.id = dead.id
      WHERE ${where})`;
  // Keys that other jobs have, or had a while ago, are looked for here: a job must not stand in its own way.
  const isFree = (now: string): string => `unique_key IS NULL OR (
    NOT EXISTS (
      SELECT 1 FROM _honker_live AS live WHERE live.queue = letter.queue AND live.unique_key = letter.unique_key
        AND live.unique_key IS NOT NULL)
    AND NOT EXISTS (
      SELECT 1 FROM _honkbun_unique_windows AS taken WHERE taken.queue = letter.queue
        AND taken.unique_key = letter.unique_key AND taken.until > ${now} AND taken.job_id <> letter.id))`;
  const revive = (where: string, [seconds, now, keep]: readonly [string, string, string]): string =>
    `INSERT INTO _honker_live
       (id, queue, payload, priority, run_at, due_ms, max_attempts, created_at, keep_result, has_history,
        unique_key, unique_until_start, on_duplicate, group_key, is_awaited, state)
     SELECT id, queue, payload, priority, ${seconds}, ${now}, max_attempts, created_at, coalesce(keep_result, ${keep}), 1,
       unique_key, unique_until_start, on_duplicate, group_key, iif(group_key IS NULL, NULL, 1),
       iif(group_key IS NULL, 'pending', 'joining')
     FROM ${letters(where)} AS letter WHERE ${isFree(now)}`;
  const actions = (wanted: (id: string) => string): DeadActions => {
    const dying = `queue = ?1 AND ${wanted("id")} AND died_at < ?3`;
    const forget = (table: string) =>
      `DELETE FROM ${table} WHERE job_id IN (SELECT id FROM _honker_dead WHERE ${dying})`;
    return {
      keyed: connection.prepare(
        `SELECT * FROM ${letters(`queue = ?1 AND ${wanted("dead.id")} AND unique_key IS NOT NULL`)}`,
      ),
      revive: connection.prepare(
        revive(`queue = ?1 AND ${wanted("dead.id")} AND unique_key IS NULL`, ["?3", "?4", "?5"]),
      ),
      removeRevived: connection.prepare(
        `DELETE FROM _honker_dead WHERE queue = ?1 AND ${wanted("id")}
         AND NOT EXISTS (SELECT 1 FROM _honkbun_buried WHERE id = _honker_dead.id AND unique_key IS NOT NULL)`,
      ),
      remove: connection.prepare(`DELETE FROM _honker_dead WHERE ${dying}`),
      forgetErrors: connection.prepare(forget("_honkbun_errors")),
      forgetProgress: connection.prepare(forget("_honkbun_progress")),
    };
  };
  return {
    list: connection.prepare(
      `SELECT id, payload, attempts, last_error, died_at FROM _honker_dead
       WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3`,
    ),
    some: actions((id) => `${id} IN (SELECT value FROM json_each(?2))`),
    all: actions(() => "?2 IS NULL"),
    reviveOne: connection.prepare(revive("dead.id = ?1", ["?2", "?3", "?4"])),
    removeOne: connection.prepare("DELETE FROM _honker_dead WHERE id = ?1"),
  };
}
