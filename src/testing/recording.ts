import type { Connection, Statement } from "../sqlite/connection.ts";

/**
 * What was enqueued, published and notified, by whomever, whatever has become of it since; what is rolled back is not.
 * Without OR IGNORE: within a trigger that would be what the statement says which fires it.
 */
export const RECORDING = `
  CREATE TABLE _honkbun_recorded_jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id INTEGER NOT NULL,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    unique_key TEXT
  );
  CREATE INDEX _honkbun_recorded_jobs_id ON _honkbun_recorded_jobs(id);

  CREATE TRIGGER _honkbun_recorded_job AFTER INSERT ON _honker_live
    WHEN NOT EXISTS (SELECT 1 FROM _honkbun_recorded_jobs WHERE id = new.id)
  BEGIN
    INSERT INTO _honkbun_recorded_jobs (id, queue, payload, priority, due, unique_key)
      VALUES (new.id, new.queue, new.payload, new.priority, new.due, new.unique_key);
  END;

  -- by update
  CREATE TRIGGER _honkbun_recorded_job_changed AFTER UPDATE OF payload ON _honker_live
  BEGIN
    UPDATE _honkbun_recorded_jobs SET payload = new.payload, priority = new.priority, due = new.due WHERE id = new.id;
  END;

  -- by another one of the same unique key, which is enqueued now
  CREATE TRIGGER _honkbun_recorded_job_replaced AFTER UPDATE OF unique_until_start ON _honker_live
  BEGIN
    DELETE FROM _honkbun_recorded_jobs WHERE id = new.id;
    INSERT INTO _honkbun_recorded_jobs (id, queue, payload, priority, due, unique_key)
      VALUES (new.id, new.queue, new.payload, new.priority, new.due, new.unique_key);
  END;

  CREATE TABLE _honkbun_recorded_events (topic TEXT NOT NULL, key TEXT, payload TEXT NOT NULL);
  CREATE TRIGGER _honkbun_recorded_event AFTER INSERT ON _honker_stream
  BEGIN
    INSERT INTO _honkbun_recorded_events VALUES (new.topic, new.key, new.payload);
  END;

  CREATE TABLE _honkbun_recorded_notifications (channel TEXT NOT NULL, payload TEXT NOT NULL);
  CREATE TRIGGER _honkbun_recorded_notification AFTER INSERT ON _honker_notifications
  BEGIN
    INSERT INTO _honkbun_recorded_notifications VALUES (new.channel, new.payload);
  END;
`;

export interface RecordedJob {
  readonly seq: number;
  readonly id: number;
  readonly payload: string;
  readonly priority: number;
  /** Epoch milliseconds. */
  readonly due: number;
  readonly unique_key: string | null;
}

export interface RecordedEvent {
  readonly key: string | null;
  readonly payload: string;
}

/** What was sent. */
interface SentStatements {
  /** Those of a queue, in order. */
  readonly jobs: Statement<RecordedJob, [string]>;
  /** Those of a topic, in order. */
  readonly events: Statement<RecordedEvent, [string]>;
  /** Those of a channel, in order. */
  readonly notifications: Statement<{ payload: string }, [string]>;
  /** All there were notifications on. */
  readonly channels: Statement<{ channel: string }, []>;
}

interface RecordingStatements extends SentStatements {
  /** The number of the last job that was recorded. */
  readonly lastJob: Statement<{ seq: number | null }, []>;
  /** Forgets the jobs of a queue. */
  readonly forget: Statement<never, [string]>;
}

/** What is recorded. */
export function prepareRecordingStatements(connection: Connection): RecordingStatements {
  const job = "id, payload, priority, due, unique_key";
  return {
    jobs: connection.prepare(`SELECT seq, ${job} FROM _honkbun_recorded_jobs WHERE queue = ?1 ORDER BY seq`),
    events: connection.prepare(
      "SELECT key, payload FROM _honkbun_recorded_events WHERE topic = ?1 ORDER BY rowid",
    ),
    notifications: connection.prepare(
      "SELECT payload FROM _honkbun_recorded_notifications WHERE channel = ?1 ORDER BY rowid",
    ),
    channels: connection.prepare("SELECT DISTINCT channel FROM _honkbun_recorded_notifications"),
    lastJob: connection.prepare("SELECT max(seq) AS seq FROM _honkbun_recorded_jobs"),
    forget: connection.prepare("DELETE FROM _honkbun_recorded_jobs WHERE queue = ?1"),
  };
}

/** Where nothing is recorded: what is there still. */
export function prepareStoredStatements(connection: Connection): SentStatements {
  const from = (table: string, due: string): string =>
    `SELECT id AS seq, id, payload, priority, ${due} AS due, NULL AS unique_key FROM ${table} WHERE queue = ?1`;
  return {
    jobs: connection.prepare(
      `${from("_honker_live", "due")}
       UNION ALL ${from("_honker_dead", "run_at * 1000")}
       UNION ALL ${from("_honkbun_completed", "due")}
       ORDER BY id`,
    ),
    events: connection.prepare("SELECT key, payload FROM _honker_stream WHERE topic = ?1 ORDER BY offset"),
    notifications: connection.prepare(
      "SELECT payload FROM _honker_notifications WHERE channel = ?1 ORDER BY id",
    ),
    channels: connection.prepare("SELECT DISTINCT channel FROM _honker_notifications"),
  };
}

/** Whether anything is recorded: in a database that `testDatabase` has made. */
export function isRecording(connection: Connection): boolean {
  return connection.use(prepareSchemaStatements).hasTable.get() !== null;
}

/** Forgets the jobs of a queue. */
export function forgetRecorded(connection: Connection, queue: string): void {
  if (isRecording(connection)) connection.use(prepareRecordingStatements).forget.run(queue);
}

function prepareSchemaStatements(connection: Connection) {
  return {
    hasTable: connection.prepare<{ n: number }>(
      "SELECT 1 AS n FROM sqlite_schema WHERE type = 'table' AND name = '_honkbun_recorded_jobs'",
    ),
  };
}
