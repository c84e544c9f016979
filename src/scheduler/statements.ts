import type { Connection, Statement } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";
import type { TimingTerms } from "./timing.ts";

/** A schedule, but for its name, and when it fires next. */
export interface Definition extends TimingTerms {
  readonly enabled: number;
  readonly jitter: number;
  readonly missed: number;
  readonly queue: string;
  readonly payload: string;
  readonly priority: number;
  readonly max_attempts: number;
  readonly expires_in: number | null;
  readonly keep_result: number | null;
  readonly group_key: string | null;
  readonly unique_key: string | null;
}

export interface ScheduleRow extends Definition {
  readonly name: string;
  readonly next_fire_at: number | null;
}

/** A row of honker's table. Times in seconds. */
export interface HonkerTask {
  readonly name: string;
  readonly queue: string;
  readonly cron_expr: string;
  readonly payload: string;
  readonly priority: number;
  readonly expires_s: number | null;
  readonly next_fire_at: number;
  readonly enabled: number;
  readonly max_attempts: number;
}

const DEFINITION = [
  "enabled",
  "cron",
  "timezone",
  "every",
  "anchor",
  "start_at",
  "end_at",
  "jitter",
  "missed",
  "queue",
  "payload",
  "priority",
  "max_attempts",
  "expires_in",
  "keep_result",
  "group_key",
  "unique_key",
] as const satisfies readonly (keyof Definition)[];

type Value = string | number | null;

/** honker's, whatever somebody has stored as an expression. */
const HONKER_TASKS = `SELECT name, queue, CAST(cron_expr AS TEXT) AS cron_expr, payload, priority, expires_s, next_fire_at, enabled,
    max_attempts FROM _honker_scheduler_tasks`;

export function saveSchedule(
  connection: Connection,
  name: string,
  definition: Definition,
  nextFireAt: number | null,
): void {
  const values = DEFINITION.map((column) => definition[column]);
  const { changes } = connection.use(prepareScheduleStatements).save.run(name, nextFireAt, ...values);
  assertStored("_honkbun_schedules", changes > 0);
}

export function isSameDefinition(a: Definition, b: Definition): boolean {
  return DEFINITION.every((column) => a[column] === b[column]);
}

interface ScheduleStatements {
  readonly get: Statement<ScheduleRow, [string]>;
  readonly list: Statement<ScheduleRow, []>;
  /** name, next, and what defines it. */
  readonly save: Statement<never, [string, number | null, ...Value[]]>;
  readonly remove: Statement<never, [string]>;
  /** name, next. */
  readonly setNext: Statement<never, [string, number | null]>;
  /** name, next, anchor. */
  readonly setEnabled: Statement<never, [string, number, number | null]>;
  /** When the first fires, but for some: their names as a JSON array. */
  readonly first: Statement<{ at: number | null }, [string]>;
  /** Those due at a time, but for some, at most so many. */
  readonly due: Statement<ScheduleRow, [number, string, number]>;
  /** Enabled ones after a name that fire after a time: at most so many. */
  readonly later: Statement<ScheduleRow, [string, number, number]>;
  readonly ticked: Statement<never, [number]>;
  readonly lastTick: Statement<{ ticked_at: number }, []>;

  readonly honkerTask: Statement<HonkerTask, [string]>;
  readonly honkerTasks: Statement<HonkerTask, []>;
  /** When the first fires, but for some: their names as a JSON array. */
  readonly firstHonker: Statement<{ at: number | null }, [string]>;
  /** Those due at a time in seconds, but for some, at most so many. */
  readonly dueHonker: Statement<HonkerTask, [number, string, number]>;
  readonly setNextHonker: Statement<never, [string, number]>;
  /** name, enabled, next. */
  readonly setEnabledHonker: Statement<never, [string, number, number]>;
  readonly removeHonker: Statement<never, [string]>;
}

export function prepareScheduleStatements(connection: Connection): ScheduleStatements {
  const isWaiting = "enabled = 1 AND next_fire_at IS NOT NULL AND name IS NOT NULL";
  const isHonkers = "enabled = 1 AND name IS NOT NULL"; // without a name it could not be moved on
  const places = DEFINITION.map((_, index) => `?${index + 3}`);
  const isKnown = (names: string): string => `name NOT IN (SELECT value FROM json_each(${names}))`;
  return {
    get: connection.prepare("SELECT * FROM _honkbun_schedules WHERE name = ?1"),
    list: connection.prepare("SELECT * FROM _honkbun_schedules ORDER BY name"),
    save: connection.prepare(
      `INSERT OR REPLACE INTO _honkbun_schedules (name, next_fire_at, ${DEFINITION.join(", ")})
       VALUES (?1, ?2, ${places.join(", ")})`,
    ),
    remove: connection.prepare("DELETE FROM _honkbun_schedules WHERE name = ?1"),
    setNext: connection.prepare("UPDATE _honkbun_schedules SET next_fire_at = ?2 WHERE name = ?1"),
    setEnabled: connection.prepare(
      "UPDATE _honkbun_schedules SET enabled = ?2, next_fire_at = ?3 WHERE name = ?1",
    ),
    first: connection.prepare(
      `SELECT min(next_fire_at) AS at FROM _honkbun_schedules WHERE ${isWaiting} AND ${isKnown("?1")}`,
    ),
    due: connection.prepare(
      `SELECT * FROM _honkbun_schedules WHERE ${isWaiting} AND next_fire_at <= ?1 AND ${isKnown("?2")}
       ORDER BY next_fire_at LIMIT ?3`,
    ),
    later: connection.prepare(
      `SELECT * FROM _honkbun_schedules WHERE name > ?1 AND ${isWaiting} AND next_fire_at > ?2 ORDER BY name LIMIT ?3`,
    ),
    ticked: connection.prepare("INSERT OR REPLACE INTO _honkbun_scheduler (id, ticked_at) VALUES (1, ?1)"),
    lastTick: connection.prepare("SELECT ticked_at FROM _honkbun_scheduler"),

    honkerTask: connection.prepare(`${HONKER_TASKS} WHERE name = ?1`),
    honkerTasks: connection.prepare(`${HONKER_TASKS} ORDER BY name`),
    firstHonker: connection.prepare(
      `SELECT min(next_fire_at) AS at FROM _honker_scheduler_tasks WHERE ${isHonkers} AND ${isKnown("?1")}`,
    ),
    dueHonker: connection.prepare(
      `${HONKER_TASKS} WHERE ${isHonkers} AND next_fire_at <= ?1 AND ${isKnown("?2")} ORDER BY next_fire_at LIMIT ?3`,
    ),
    setNextHonker: connection.prepare("UPDATE _honker_scheduler_tasks SET next_fire_at = ?2 WHERE name = ?1"),
    setEnabledHonker: connection.prepare(
      "UPDATE _honker_scheduler_tasks SET enabled = ?2, next_fire_at = ?3 WHERE name = ?1",
    ),
    removeHonker: connection.prepare("DELETE FROM _honker_scheduler_tasks WHERE name = ?1"),
  };
}
