import type { Connection, Statement } from "../sqlite/connection.ts";

export interface Head {
  readonly id: number;
  readonly channel: string;
}
export interface Body {
  readonly payload: string;
  readonly created_at: number;
}

export interface PubSubStatements {
  /** A new notification: channel, payload, now in seconds. */
  readonly insert: Statement<never, [string, string, number]>;
  /** Ids and channels after an id, at most so many. */
  readonly heads: Statement<Head, [number, number]>;
  readonly body: Statement<Body, [number]>;
  /** The largest id ever given, also when its row is gone. */
  readonly last: Statement<{ id: number }, []>;
  /** Of one channel, between two ids (after, through), at most so many. */
  readonly range: Statement<Head & Body, [string, number, number, number]>;
  readonly count: Statement<{ n: number }, [string, number, number]>;
  /** Of the oldest so many rows, how many may go: maximal id, or created before; but none created after. */
  readonly prunable: Statement<{ n: number }, [number, number, number, number]>;
  readonly prune: Statement<never, [number, number, number, number]>;
}

export function preparePubSubStatements(connection: Connection): PubSubStatements {
  // Old rows have small ids: walking from the oldest is bounded, while created_at has no index.
  const prunable = `
    SELECT id FROM (SELECT id, created_at FROM _honker_notifications ORDER BY id LIMIT ?1)
    WHERE (id <= ?2 AND created_at < ?4) OR created_at < ?3`;
  return {
    insert: connection.prepare(
      "INSERT INTO _honker_notifications (channel, payload, created_at) VALUES (?1, ?2, ?3)",
    ),
    // Without the payload, which for other channels would be read in vain, long ones from pages of their own.
    heads: connection.prepare(
      "SELECT id, channel FROM _honker_notifications WHERE id > ?1 ORDER BY id LIMIT ?2",
    ),
    body: connection.prepare("SELECT payload, created_at FROM _honker_notifications WHERE id = ?1"),
    last: connection.prepare(
      "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_honker_notifications'), 0) AS id",
    ),
    range: connection.prepare(
      `SELECT id, channel, payload, created_at FROM _honker_notifications
       WHERE channel = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4`,
    ),
    count: connection.prepare(
      "SELECT count(*) AS n FROM _honker_notifications WHERE channel = ?1 AND id > ?2 AND id <= ?3",
    ),
    prunable: connection.prepare(`SELECT count(*) AS n FROM (${prunable})`),
    prune: connection.prepare(`DELETE FROM _honker_notifications WHERE id IN (${prunable})`),
  };
}
