import { Database } from "bun:sqlite";

/** Writes a file as honker 0.4 leaves it: its tables and indexes, rows in each, not in WAL mode. */
export function makeHonkerFile(path: string): void {
  using db = new Database(path);
  db.run(TABLES);
  db.run(ROWS);
}

/** All rows of honker's tables, by table, without the columns that honker does not know. */
export function honkerRows(db: Database): Record<string, unknown[]> {
  return Object.fromEntries(
    Object.entries(COLUMNS).map(([table, columns]) => [
      table,
      db.query(`SELECT ${columns} FROM ${table} ORDER BY 1, 2`).all(),
    ]),
  );
}

const COLUMNS = {
  _honker_live:
    "id, queue, payload, state, priority, run_at, worker_id, claim_expires_at, attempts, max_attempts, created_at, expires_at",
  _honker_dead:
    "id, queue, payload, priority, run_at, attempts, max_attempts, last_error, created_at, died_at",
  _honker_notifications: "id, channel, payload, created_at",
  _honker_stream: "offset, topic, key, payload, created_at",
  _honker_stream_consumers: "name, topic, offset",
  _honker_locks: "name, owner, expires_at",
  _honker_rate_limits: "name, window_start, count",
  _honker_scheduler_tasks:
    "name, queue, cron_expr, payload, priority, expires_s, next_fire_at, enabled, max_attempts",
  _honker_results: "job_id, value, created_at, expires_at",
};

const TABLES = `
  CREATE TABLE _honker_notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (unixepoch())
  );
  CREATE INDEX _honker_notifications_recent ON _honker_notifications(channel, id);
  CREATE TABLE _honker_live (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    priority INTEGER NOT NULL DEFAULT 0,
    run_at INTEGER NOT NULL DEFAULT (unixepoch()),
    worker_id TEXT,
    claim_expires_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 3,
    created_at INTEGER NOT NULL DEFAULT (unixepoch()),
    expires_at INTEGER
  );
  CREATE INDEX _honker_live_claim ON _honker_live(queue, priority DESC, run_at, id)
    WHERE state IN ('pending', 'processing');
  CREATE INDEX _honker_live_pending_deadline ON _honker_live(queue, run_at) WHERE state = 'pending';
  CREATE INDEX _honker_live_processing_deadline ON _honker_live(queue, claim_expires_at)
    WHERE state = 'processing';
  CREATE TABLE _honker_dead (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    run_at INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    created_at INTEGER NOT NULL DEFAULT (unixepoch()),
    died_at INTEGER NOT NULL DEFAULT (unixepoch())
  );
  CREATE TABLE _honker_locks (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  );
  CREATE TABLE _honker_rate_limits (
    name TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, window_start)
  );
  CREATE TABLE _honker_scheduler_tasks (
    name TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    cron_expr TEXT NOT NULL,
    payload TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    expires_s INTEGER,
    next_fire_at INTEGER NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    max_attempts INTEGER NOT NULL DEFAULT 3
  );
  CREATE TABLE _honker_results (
    job_id INTEGER PRIMARY KEY,
    value TEXT,
    created_at INTEGER NOT NULL DEFAULT (unixepoch()),
    expires_at INTEGER
  );
  CREATE TABLE _honker_stream (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (unixepoch())
  );
  CREATE INDEX _honker_stream_topic ON _honker_stream(topic, offset);
  CREATE TABLE _honker_stream_consumers (
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    offset INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, topic)
  );
`;

const ROWS = `
  INSERT INTO _honker_notifications VALUES (1, 'orders', '{"id":42}', 1700000000), (2, 'orders', '{"id":43}', 1700000001);
  INSERT INTO _honker_live VALUES
    (1, 'emails', '{"to":"ready@example.com"}', 'pending', 0, 1700000000, NULL, NULL, 0, 3, 1700000000, NULL),
    (2, 'emails', '{"to":"later@example.com"}', 'pending', 0, 4102444800, NULL, NULL, 0, 3, 1700000000, NULL),
    (3, 'images', '{"n":1}', 'processing', 0, 1700000000, 'python-worker', 4102444800, 1, 3, 1700000000, NULL),
    (5, 'tasks', '{"__honker_task__":{"task":"resize","args":[1],"kwargs":{}}}', 'pending', 5, 1700000000, NULL, NULL, 0, 1, 1700000000, 4102444800);
  INSERT INTO _honker_dead VALUES (4, 'images', '{"n":2}', 0, 1700000000, 1, 3, 'ValueError: no such user', 1700000000, 1700000002);
  INSERT INTO _honker_locks VALUES ('backup', 'python-worker', 4102444800);
  INSERT INTO _honker_rate_limits VALUES ('api', 1700000000, 1);
  INSERT INTO _honker_scheduler_tasks VALUES ('nightly', 'backups', '0 3 * * *', '"go"', 0, NULL, 4102444800, 1, 3);
  INSERT INTO _honker_results VALUES (98, '{"ok":true}', 1700000000, NULL);
  INSERT INTO _honker_stream VALUES (1, 'users', 'user-1', '{"name":"signup"}', 1700000000), (2, 'other', NULL, '{}', 1700000000);
  INSERT INTO _honker_stream_consumers VALUES ('billing', 'users', 1);
`;
