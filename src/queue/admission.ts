import type { Connection, Statement } from "../sqlite/connection.ts";
import { ACTIVE, hasRoom, nextSeq, UNJOINED } from "../sqlite/flow-schema.ts";
import { FAILED_DEPENDENTS } from "./burial.ts";
import { type Kept, wholeNumber } from "./limits.ts";

// Which jobs of a queue may start now, as far as that does not depend on the jobs alone.

/** Jobs that join their groups in one go at most. */
const PORTION = 100;

/** What is said of a queue, and what of its jobs is to be seen to before any is claimed. */
export interface Standing {
  readonly isPaused: boolean;
  readonly concurrency: number | null;
  readonly rate: Rate | null;
  /** Jobs of groups are ready or run. */
  readonly hasGroups: boolean;
  /** Jobs are due that have yet to join their groups. */
  readonly hasUnjoined: boolean;
  /** Jobs, of whatever queue, were to run after others that have failed. */
  readonly hasFailed: boolean;
  /** Undefined: never was said anything; null: they are kept no longer. */
  readonly keepCompleted: Kept | null | undefined;
  readonly keepDead: Kept | null;
  /** That was changed, and there may be much that is to go. */
  readonly hasToPrune: boolean;
}

interface Rate {
  readonly limit: number;
  /** Milliseconds. */
  readonly per: number;
}

export function readStanding(connection: Connection, queue: string, now: number): Standing {
  const row = connection.use(prepareAdmissionStatements).standing.get(queue, now) as StandingRow;
  const { rate_limit: limit, rate_per: per, keep_completed } = row;
  const keepDead = { maxAge: row.keep_dead_age, maxCount: row.keep_dead_count };
  return {
    isPaused: row.paused === 1,
    concurrency: row.concurrency,
    rate: limit === null || per === null ? null : { limit, per },
    hasGroups: row.has_groups === 1,
    hasUnjoined: row.has_unjoined === 1,
    hasFailed: row.has_failed === 1,
    keepCompleted:
      keep_completed === 1
        ? { maxAge: row.keep_completed_age, maxCount: row.keep_completed_count }
        : keep_completed === 0
          ? null
          : undefined,
    keepDead: keepDead.maxAge === null && keepDead.maxCount === null ? null : keepDead,
    hasToPrune: row.has_to_prune === 1,
  };
}

/** Whether the queue itself says how many of its jobs run, or which: then none are claimed ahead of their turn. */
export function isLimited({ concurrency, rate, hasGroups, hasUnjoined }: Standing): boolean {
  return concurrency !== null || rate !== null || hasGroups || hasUnjoined;
}

/** How many jobs of the queue may be started now, `wanted` at most. */
export function admit(
  connection: Connection,
  queue: string,
  { isPaused, concurrency, rate }: Standing,
  wanted: number,
  now: number,
): number {
  if (isPaused) return 0;
  let count = wanted;
  if (concurrency !== null) {
    const { running } = connection.use(prepareAdmissionStatements);
    count = Math.min(count, concurrency - (running.get(queue, concurrency)?.n ?? 0));
  }
  if (rate !== null) count = Math.min(count, rate.limit - startedWithin(connection, queue, rate, now));
  return Math.max(count, 0);
}

/** When the rate lets another job start: 0 for now, Infinity when something else must happen before. In epoch milliseconds. */
export function admitsAt(connection: Connection, queue: string, standing: Standing, now: number): number {
  if (admit(connection, queue, { ...standing, rate: null }, 1, now) === 0) return Number.POSITIVE_INFINITY;
  const { rate } = standing;
  const { firstStart, lastStart } = connection.use(prepareAdmissionStatements);
  // The clock was set back, as a claim will find.
  if (rate === null || (lastStart.get(queue)?.at ?? 0) > now) return 0;
  if (startedWithin(connection, queue, rate, now) < rate.limit) return 0;
  return (firstStart.get(queue, now - rate.per)?.at ?? now) + rate.per;
}

/** Jobs were started: they count for the rate. */
export function noteStarts(
  connection: Connection,
  queue: string,
  { rate }: Standing,
  count: number,
  now: number,
): void {
  if (rate === null || count === 0) return;
  const { addStarts, forgetStarts } = connection.use(prepareAdmissionStatements);
  addStarts.run(queue, now, count);
  forgetStarts.run(queue, now - rate.per);
}

/** Lets jobs that are due join their groups: the first of them have their turn, the others are blocked. */
export function joinGroups(connection: Connection, queue: string, now: number): void {
  const { unjoined, join } = connection.use(prepareAdmissionStatements);
  for (const { id, group_key } of unjoined.all(queue, now, PORTION)) join.run(id, queue, group_key);
}

/** After the clock was set back, what was started last counts as started now. To be called before jobs are admitted. */
export function followClock(connection: Connection, queue: string, { rate }: Standing, now: number): void {
  if (rate === null) return;
  const { lastStart, started, dropLater, addStarts } = connection.use(prepareAdmissionStatements);
  const last = lastStart.get(queue);
  if (last === null || last.at <= now) return;
  const count = started.get(queue, last.at - rate.per)?.n ?? 0;
  dropLater.run(queue, now);
  addStarts.run(queue, now, count);
}

/** How many were started in the time of the rate that ends now. */
function startedWithin(connection: Connection, queue: string, { per }: Rate, now: number): number {
  return connection.use(prepareAdmissionStatements).started.get(queue, now - per)?.n ?? 0;
}

interface StandingRow {
  readonly paused: number | null;
  readonly concurrency: number | null;
  readonly rate_limit: number | null;
  readonly rate_per: number | null;
  readonly keep_completed: number | null;
  readonly keep_completed_age: number | null;
  readonly keep_completed_count: number | null;
  readonly keep_dead_age: number | null;
  readonly keep_dead_count: number | null;
  readonly has_to_prune: number | null;
  readonly has_groups: number;
  readonly has_unjoined: number;
  readonly has_failed: number;
}

interface AdmissionStatements {
  /** queue, now in milliseconds. */
  readonly standing: Statement<StandingRow, [string, number]>;
  /** How many are claimed, counted up to a number: queue, number. */
  readonly running: Statement<{ n: number }, [string, number]>;
  readonly lastStart: Statement<{ at: number }, [string]>;
  /** How many were started after a time: queue, time. */
  readonly started: Statement<{ n: number }, [string, number]>;
  /** When the first was started after a time: queue, time. */
  readonly firstStart: Statement<{ at: number | null }, [string, number]>;
  /** queue, when, how many. */
  readonly addStarts: Statement<never, [string, number, number]>;
  /** queue, time. */
  readonly dropLater: Statement<never, [string, number]>;
  /** Those of which nothing depends any more: queue, the time up to which none counts. */
  readonly forgetStarts: Statement<never, [string, number]>;
  /** queue, now in milliseconds, at most so many. */
  readonly unjoined: Statement<{ id: number; group_key: string }, [string, number, number]>;
  /** id, queue, group. */
  readonly join: Statement<never, [number, string, string]>;
}

function prepareAdmissionStatements(connection: Connection): AdmissionStatements {
  const starts = "_honkbun_starts WHERE queue = ?1";
  return {
    standing: connection.prepare(
      `SELECT said.paused, said.keep_completed, said.has_to_prune,
         ${["concurrency", "rate_limit", "rate_per", "keep_completed_age", "keep_completed_count", "keep_dead_age", "keep_dead_count"].map((column) => `${wholeNumber(column)} AS ${column}`).join(", ")},
         EXISTS (SELECT 1 FROM _honker_live WHERE queue = ?1 AND ${ACTIVE}) AS has_groups,
         EXISTS (SELECT 1 FROM _honker_live WHERE queue = ?1 AND ${UNJOINED} AND due <= ?2) AS has_unjoined,
         EXISTS (SELECT 1 ${FAILED_DEPENDENTS}) AS has_failed
       FROM (SELECT ?1 AS name) AS wanted LEFT JOIN _honkbun_queues AS said ON said.name = wanted.name`,
    ),
    running: connection.prepare(
      `SELECT count(*) AS n FROM (
         SELECT 1 FROM _honker_live WHERE queue = ?1 AND state = 'processing' LIMIT ?2)`,
    ),
    lastStart: connection.prepare(`SELECT at FROM ${starts} ORDER BY at DESC LIMIT 1`),
    // Of what was before the first that is remembered, that one tells.
    started: connection.prepare(
      `SELECT (SELECT total FROM ${starts} ORDER BY at DESC LIMIT 1) - coalesce(
         (SELECT total FROM ${starts} AND at <= ?2 ORDER BY at DESC LIMIT 1),
         (SELECT total - count FROM ${starts} ORDER BY at LIMIT 1)) AS n`,
    ),
    firstStart: connection.prepare(`SELECT min(at) AS at FROM ${starts} AND at > ?2`),
    addStarts: connection.prepare(
      `INSERT INTO _honkbun_starts (queue, at, count, total)
       SELECT ?1, ?2, ?3, ?3 + coalesce((SELECT total FROM ${starts} ORDER BY at DESC LIMIT 1), 0) WHERE true
       ON CONFLICT (queue, at) DO UPDATE SET count = count + excluded.count, total = excluded.total`,
    ),
    dropLater: connection.prepare(`DELETE FROM ${starts} AND at > ?2`),
    forgetStarts: connection.prepare(
      `DELETE FROM ${starts} AND at IN (
         SELECT at FROM ${starts} AND at < (SELECT max(at) FROM ${starts} AND at <= ?2) ORDER BY at LIMIT ${PORTION})`,
    ),
    unjoined: connection.prepare(
      `SELECT id, group_key FROM _honker_live WHERE queue = ?1 AND ${UNJOINED} AND due <= ?2
       ORDER BY due, id LIMIT ?3`,
    ),
    join: connection.prepare(
      `UPDATE _honker_live SET group_seq = ${nextSeq("?2", "?3")}, is_awaited = 1,
         state = iif(${hasRoom("?2", "?3")}, 'pending', 'blocked')
       WHERE id = ?1`,
    ),
  };
}
