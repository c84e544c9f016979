import { z } from "zod";

import { type Duration, show, toMilliseconds } from "../duration.ts";
import { duration, readOptions, type Retention, retention } from "../options.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { ACTIVE, GROUP_ORDER } from "../sqlite/flow-schema.ts";

// What is said of whole queues, in the file, for every worker of every process.

export interface Limits {
  /** How many jobs of the queue run at once, in all processes. Null: as many as workers ask for, the default. */
  readonly concurrency?: number | null | undefined;
  /** How many jobs of each group run at once. Default 1. */
  readonly groupConcurrency?: number | undefined;
  /** At most `limit` jobs are started within any time of `per`, in all processes. Null: no such bound, the default. */
  readonly rate?: { readonly limit: number; readonly per: Duration } | null | undefined;
  /** How long completed jobs are kept, with their results; `{}` for ever. Null: for as long as `keepResult` says, the default. */
  readonly keepCompleted?: Retention | null | undefined;
  /** How long buried jobs are kept. Null: for ever, the default. */
  readonly keepDead?: Retention | null | undefined;
}

const MOST = 1_000_000;
/** They are counted for each job that joins. */
const MOST_OF_GROUP = 1_000;

const LIMITS: z.ZodType<Limits> = z.strictObject({
  concurrency: z.int().min(1).max(MOST).nullable().optional(),
  groupConcurrency: z.int().min(1).max(MOST_OF_GROUP).optional(),
  rate: z
    .strictObject({ limit: z.int().min(1).max(MOST), per: duration })
    .nullable()
    .optional(),
  keepCompleted: retention.nullable().optional(),
  keepDead: retention.nullable().optional(),
}) as z.ZodType<Limits>;

/** How much of something is kept; null for no bound. Milliseconds. */
export interface Kept {
  readonly maxAge: number | null;
  readonly maxCount: number | null;
}

/** Limits as they are stored; undefined for what stays as it is. */
export interface LimitTerms {
  readonly concurrency: number | null | undefined;
  readonly groupConcurrency: number | undefined;
  readonly rate: { readonly limit: number; readonly per: number } | null | undefined;
  readonly keepCompleted: Kept | null | undefined;
  readonly keepDead: Kept | null | undefined;
}

/** @throws TypeError, RangeError */
export function readLimits(limits: Limits): LimitTerms {
  if (limits === undefined || limits === null) {
    throw new TypeError(`setLimits: limits must be an object, got ${limits}`);
  }
  const { concurrency, groupConcurrency, rate, keepCompleted, keepDead } = readOptions(
    "setLimits",
    LIMITS,
    limits,
  );
  return {
    concurrency,
    groupConcurrency,
    rate: rate && { limit: rate.limit, per: readPer(rate.per) },
    keepCompleted: keepCompleted && readKept(keepCompleted, "keepCompleted"),
    keepDead: keepDead && readKept(keepDead, "keepDead"),
  };
}

function readPer(value: Duration): number {
  const per = Math.ceil(toMilliseconds(value, "setLimits: rate.per"));
  if (per > 0) return per;
  throw new RangeError(`setLimits: rate.per must be more than 0, got ${show(value)}`);
}

function readKept({ maxAge, maxCount }: Retention, option: string): Kept {
  return {
    maxAge: maxAge === undefined ? null : Math.ceil(toMilliseconds(maxAge, `setLimits: ${option}.maxAge`)),
    maxCount: maxCount ?? null,
  };
}

/** A column of `_honkbun_queues`, in which somebody may have stored what is no number: that limits nothing. */
export function wholeNumber(column: string): string {
  return `iif(typeof(${column}) = 'integer', ${column}, NULL)`;
}

/** Stores limits, on a connection that is inside a transaction. */
export function setLimits(connection: Connection, queue: string, terms: LimitTerms, now: number): void {
  const statements = connection.use(prepareLimitStatements);
  const { concurrency, groupConcurrency, rate, keepCompleted, keepDead } = terms;
  statements.add.run(queue);
  if (concurrency !== undefined) statements.setConcurrency.run(queue, concurrency);
  if (rate !== undefined) {
    statements.setRate.run(queue, rate?.limit ?? null, rate?.per ?? null);
    if (rate === null) statements.forgetStarts.run(queue);
  }
  if (keepCompleted !== undefined) {
    const { maxAge, maxCount } = keepCompleted ?? { maxAge: null, maxCount: null };
    statements.setKeepCompleted.run(queue, keepCompleted === null ? 0 : 1, maxAge, maxCount);
  }
  if (keepDead !== undefined) {
    statements.setKeepDead.run(queue, keepDead?.maxAge ?? null, keepDead?.maxCount ?? null);
  }
  if (groupConcurrency !== undefined) {
    statements.setGroupConcurrency.run(queue, groupConcurrency);
    statements.block.run(queue, groupConcurrency);
    statements.unblock.run(queue, groupConcurrency, now);
  }
}

export function setPaused(connection: Connection, queue: string, paused: boolean): void {
  const { add, setPaused: set } = connection.use(prepareLimitStatements);
  add.run(queue);
  set.run(queue, paused ? 1 : 0);
}

interface LimitStatements {
  readonly add: Statement<never, [string]>;
  readonly setPaused: Statement<never, [string, number]>;
  readonly setConcurrency: Statement<never, [string, number | null]>;
  readonly setGroupConcurrency: Statement<never, [string, number]>;
  readonly setRate: Statement<never, [string, number | null, number | null]>;
  readonly forgetStarts: Statement<never, [string]>;
  /** queue, whether, age, count. */
  readonly setKeepCompleted: Statement<never, [string, number, number | null, number | null]>;
  readonly setKeepDead: Statement<never, [string, number | null, number | null]>;
  /** Takes their turn from jobs beyond a group's concurrency that have not begun: queue, concurrency. */
  readonly block: Statement<never, [string, number]>;
  /** Gives blocked jobs their turn: queue, concurrency, now in milliseconds. */
  readonly unblock: Statement<never, [string, number, number]>;
}

function prepareLimitStatements(connection: Connection): LimitStatements {
  const set = <P extends [string, ...(number | null)[]]>(changes: string): Statement<never, P> =>
    connection.prepare(`UPDATE _honkbun_queues SET ${changes} WHERE name = ?1`);
  return {
    add: connection.prepare("INSERT INTO _honkbun_queues (name) VALUES (?1) ON CONFLICT (name) DO NOTHING"),
    setPaused: set("paused = ?2"),
    setConcurrency: set("concurrency = ?2"),
    setGroupConcurrency: set("group_concurrency = ?2"),
    setRate: set("rate_limit = ?2, rate_per = ?3"),
    forgetStarts: connection.prepare("DELETE FROM _honkbun_starts WHERE queue = ?1"),
    setKeepCompleted: set(
      `keep_completed = iif(keep_completed IS NULL AND ?2 = 0, NULL, ?2), keep_completed_age = ?3,
         keep_completed_count = ?4, has_to_prune = 1`,
    ),
    setKeepDead: set("keep_dead_age = ?2, keep_dead_count = ?3, has_to_prune = 1"),
    block: connection.prepare(
      `UPDATE _honker_live SET state = 'blocked' WHERE id IN (
         SELECT id FROM (
           SELECT id, state, row_number() OVER (
             PARTITION BY group_key ORDER BY state = 'processing' DESC, ${GROUP_ORDER}) AS place
           FROM _honker_live WHERE queue = ?1 AND ${ACTIVE})
         WHERE place > ?2 AND state = 'pending')`,
    ),
    unblock: connection.prepare(
      `UPDATE _honker_live SET state = 'pending', run_at = max(due, ?3) / 1000, due_ms = max(due, ?3),
         turn_ms = max(due, ?3) WHERE id IN (
         SELECT id FROM (
           SELECT id, group_key, row_number() OVER (PARTITION BY group_key ORDER BY ${GROUP_ORDER}) AS place
           FROM _honker_live WHERE queue = ?1 AND state = 'blocked') AS blocked
         WHERE place <= ?2 - (
           SELECT count(*) FROM _honker_live
           WHERE queue = ?1 AND group_key = blocked.group_key AND ${ACTIVE}))`,
    ),
  };
}
