import type { Connection, Statement } from "../sqlite/connection.ts";

export interface EventRow {
  readonly offset: number;
  readonly key: string | null;
  readonly payload: string;
  /** In seconds. */
  readonly created_at: number;
}

export interface SeekRow {
  readonly seq: number;
  readonly topic: string;
  readonly name: string;
  readonly offset: number;
}

export interface StreamStatements {
  /** topic, key, payload, now in seconds. */
  readonly publish: Statement<never, [string, string | null, string, number]>;
  /** Events after an offset: topic, offset, at most so many. */
  readonly page: Statement<EventRow, [string, number, number]>;
  /** Of one key: topic, key, offset, at most so many. */
  readonly pageOfKey: Statement<EventRow, [string, string, number, number]>;
  readonly last: Statement<EventRow, [string]>;
  readonly count: Statement<{ n: number }, [string]>;
  /** The first event at or after an offset: topic, offset. */
  readonly at: Statement<{ offset: number; created_at: number }, [string, number]>;
  /** The largest offset ever given, in whatever topic. */
  readonly lastOffset: Statement<{ offset: number }, []>;
  /** Topics that have events after an offset, in order, at most so many events. */
  readonly heads: Statement<{ offset: number; topic: string }, [number, number]>;
  readonly saved: Statement<{ offset: number }, [string, string]>;
  /** Saves an offset unless a larger one is saved: name, topic, offset, the last seek that the consumer knows of. */
  readonly save: Statement<never, [string, string, number, number]>;
  readonly seek: Statement<never, [string, string, number]>;
  readonly noteSeek: Statement<never, [string, string, number]>;
  readonly seeksAfter: Statement<SeekRow, [number]>;
  readonly lastSeek: Statement<{ seq: number }, []>;
  readonly consumers: Statement<{ name: string; offset: number; lag: number }, [string]>;
}

export function prepareStreamStatements(connection: Connection): StreamStatements {
  const columns = "offset, key, payload, created_at";
  return {
    publish: connection.prepare(
      "INSERT INTO _honker_stream (topic, key, payload, created_at) VALUES (?1, ?2, ?3, ?4)",
    ),
    page: connection.prepare(
      `SELECT ${columns} FROM _honker_stream WHERE topic = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3`,
    ),
    pageOfKey: connection.prepare(
      `SELECT ${columns} FROM _honker_stream
       WHERE topic = ?1 AND key = ?2 AND key IS NOT NULL AND offset > ?3 ORDER BY offset LIMIT ?4`,
    ),
    last: connection.prepare(
      `SELECT ${columns} FROM _honker_stream WHERE topic = ?1 ORDER BY offset DESC LIMIT 1`,
    ),
    count: connection.prepare("SELECT count(*) AS n FROM _honker_stream WHERE topic = ?1"),
    at: connection.prepare(
      "SELECT offset, created_at FROM _honker_stream WHERE topic = ?1 AND offset >= ?2 ORDER BY offset LIMIT 1",
    ),
    lastOffset: connection.prepare(
      "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_honker_stream'), 0) AS offset",
    ),
    heads: connection.prepare(
      "SELECT offset, topic FROM _honker_stream WHERE offset > ?1 ORDER BY offset LIMIT ?2",
    ),
    saved: connection.prepare("SELECT offset FROM _honker_stream_consumers WHERE topic = ?1 AND name = ?2"),
    save: connection.prepare(
      `INSERT INTO _honker_stream_consumers (name, topic, offset) SELECT ?1, ?2, ?3
       WHERE NOT EXISTS (SELECT 1 FROM _honkbun_stream_seeks WHERE topic = ?2 AND name = ?1 AND seq > ?4)
       ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset WHERE excluded.offset > offset`,
    ),
    seek: connection.prepare(
      `INSERT INTO _honker_stream_consumers (name, topic, offset) VALUES (?1, ?2, ?3)
       ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset`,
    ),
    noteSeek: connection.prepare(
      "INSERT OR REPLACE INTO _honkbun_stream_seeks (name, topic, offset) VALUES (?1, ?2, ?3)",
    ),
    seeksAfter: connection.prepare(
      "SELECT seq, topic, name, offset FROM _honkbun_stream_seeks WHERE seq > ?1 ORDER BY seq",
    ),
    lastSeek: connection.prepare(
      "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_honkbun_stream_seeks'), 0) AS seq",
    ),
    consumers: connection.prepare(
      `SELECT name, offset,
         (SELECT count(*) FROM _honker_stream WHERE topic = ?1 AND _honker_stream.offset > consumer.offset) AS lag
       FROM _honker_stream_consumers AS consumer WHERE topic = ?1 ORDER BY name`,
    ),
  };
}
