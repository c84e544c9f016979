import type { Connection, Statement } from "../sqlite/connection.ts";

export interface GroupStatements {
  /** Begins a group at the oldest event that is there: topic, name. */
  readonly register: Statement<never, [string, string]>;
  /** How far events were handed on: topic, name. */
  readonly handedOn: Statement<{ offset: number }, [string, string]>;
  /** The last of the next so many events: topic, name, how many. */
  readonly portionEnd: Statement<{ offset: number | null }, [string, string, number]>;
  /** queue, now in seconds and in milliseconds, most deliveries, 1 if events of a key go in order, topic, name, through. */
  readonly handOn: Statement<never, [string, number, number, number, number, string, string, number]>;
  readonly advance: Statement<never, [string, string, number]>;
  /** Whether there are more events: topic, name. */
  readonly hasEvents: Statement<{ n: number }, [string, string]>;
  /** How many wait for their turn, counted up to a number: queue, number. */
  readonly blocked: Statement<{ n: number }, [string, number]>;
  /** How many events there are that were not handed on: topic, name. */
  readonly ahead: Statement<{ n: number }, [string, string]>;
  /** How many were delivered and are not settled, and how many have yet to be: queue. */
  readonly deliveries: Statement<{ begun: number; others: number }, [string]>;
  /** Dead letters after an offset: queue, offset, at most so many. */
  readonly dead: Statement<{ id: number; payload: string }, [string, number, number]>;
  /** Ids of those with offsets of a JSON array: queue, offsets. */
  readonly deadIds: Statement<{ id: number }, [string, string]>;
}

export function prepareGroupStatements(connection: Connection): GroupStatements {
  // In front of all when that is no offset, which whoever hands events on is told.
  const after =
    "(SELECT iif(typeof(offset) = 'integer', offset, -1) FROM _honkbun_stream_groups WHERE topic = ?1 AND name = ?2)";
  const live = "_honker_live WHERE queue = ?1";
  const count = (where: string, begun: string): string =>
    `SELECT coalesce(sum(${begun}), 0) AS begun, count(*) AS n FROM ${live} AND ${where}`;
  return {
    register: connection.prepare(
      `INSERT INTO _honkbun_stream_groups (topic, name, offset)
       VALUES (?1, ?2, coalesce((SELECT trimmed_through FROM _honkbun_streams WHERE topic = ?1), 0))
       ON CONFLICT (topic, name) DO NOTHING`,
    ),
    handedOn: connection.prepare("SELECT offset FROM _honkbun_stream_groups WHERE topic = ?1 AND name = ?2"),
    portionEnd: connection.prepare(
      `SELECT max(offset) AS offset FROM (
         SELECT offset FROM _honker_stream WHERE topic = ?1 AND offset > ${after} ORDER BY offset LIMIT ?3)`,
    ),
    handOn: connection.prepare(
      `INSERT INTO _honker_live (queue, payload, run_at, due_ms, created_at, max_attempts, group_key)
       SELECT ?1, json_object('offset', offset, 'key', CAST(key AS TEXT), 'payload', CAST(payload AS TEXT),
           'at', CAST(created_at AS INTEGER)), ?2, ?3, ?2, ?4, iif(?5 = 1, CAST(key AS TEXT), NULL)
       FROM _honker_stream
       WHERE topic = ?6 AND offset <= ?8
         AND offset > (SELECT offset FROM _honkbun_stream_groups WHERE topic = ?6 AND name = ?7)
       ORDER BY offset`,
    ),
    advance: connection.prepare(
      "UPDATE _honkbun_stream_groups SET offset = ?3 WHERE topic = ?1 AND name = ?2",
    ),
    hasEvents: connection.prepare(
      `SELECT 1 AS n FROM _honker_stream WHERE topic = ?1 AND offset > ${after} ORDER BY offset LIMIT 1`,
    ),
    blocked: connection.prepare(
      `SELECT count(*) AS n FROM (SELECT 1 FROM ${live} AND state = 'blocked' LIMIT ?2)`,
    ),
    ahead: connection.prepare(
      `SELECT count(*) AS n FROM _honker_stream WHERE topic = ?1 AND offset > coalesce(${after}, 0)`,
    ),
    // State by state, because each has its own index.
    deliveries: connection.prepare(
      `SELECT sum(begun) AS begun, sum(n - begun) AS others FROM (
         ${count("state = 'processing'", "1")}
         UNION ALL ${count("state = 'pending' AND attempts < max_attempts AND (group_key IS NULL OR group_seq IS NOT NULL)", "attempts > 0")}
         UNION ALL ${count("state = 'pending' AND attempts >= max_attempts", "1")}
         UNION ALL ${count("state = 'blocked'", "attempts > 0")}
         UNION ALL ${count("group_key IS NOT NULL AND group_seq IS NULL AND state IN ('pending', 'joining')", "attempts > 0")})`,
    ),
    dead: connection.prepare(
      `SELECT id, payload FROM _honker_dead WHERE queue = ?1 AND json_extract(payload, '$.offset') > ?2
       ORDER BY json_extract(payload, '$.offset') LIMIT ?3`,
    ),
    deadIds: connection.prepare(
      `SELECT id FROM _honker_dead
       WHERE queue = ?1 AND json_extract(payload, '$.offset') IN (SELECT value FROM json_each(?2))`,
    ),
  };
}
