/** honker's tables and indexes under its own names: whoever comes first creates them, the other finds them. */
export const HONKER_TABLES = `
  CREATE TABLE IF NOT EXISTS _honker_live (
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
  CREATE INDEX IF NOT EXISTS _honker_live_processing_deadline
    ON _honker_live(queue, claim_expires_at) WHERE state = 'processing';

  CREATE TABLE IF NOT EXISTS _honker_dead (
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

  CREATE TABLE IF NOT EXISTS _honker_notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (unixepoch())
  );
  CREATE INDEX IF NOT EXISTS _honker_notifications_recent ON _honker_notifications(channel, id);

  CREATE TABLE IF NOT EXISTS _honker_stream (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (unixepoch())
  );
  CREATE INDEX IF NOT EXISTS _honker_stream_topic ON _honker_stream(topic, offset);
  CREATE TABLE IF NOT EXISTS _honker_stream_consumers (
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    offset INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, topic)
  );

  CREATE TABLE IF NOT EXISTS _honker_locks (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  );
  CREATE TABLE IF NOT EXISTS _honker_rate_limits (
    name TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, window_start)
  );
  CREATE TABLE IF NOT EXISTS _honker_scheduler_tasks (
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
  CREATE TABLE IF NOT EXISTS _honker_results (
    job_id INTEGER PRIMARY KEY,
    value TEXT,
    created_at INTEGER NOT NULL DEFAULT (unixepoch()),
    expires_at INTEGER
  );
`;

/** A column of one of honker's tables that honker does not see. It may be NULL, so that its inserts and plain SQL's stay complete. */
export interface Column {
  readonly name: string;
  readonly definition: string;
}

export const LIVE_COLUMNS: readonly Column[] = [
  { name: "due_ms", definition: "INTEGER" },
  // Right whoever wrote last: when honker or plain SQL moved run_at, a due_ms that does not match is void.
  {
    name: "due",
    definition: "INTEGER GENERATED ALWAYS AS (iif(due_ms / 1000 = run_at, due_ms, run_at * 1000)) VIRTUAL",
  },
  { name: "group_key", definition: "TEXT" },
  /** Ascending in the order in which jobs joined their group; NULL before that. */
  { name: "group_seq", definition: "INTEGER" },
  /** When a job of a group had its turn, or was claimed, in epoch milliseconds; NULL for one that had it from the start. */
  { name: "turn_ms", definition: "INTEGER" },
  { name: "unique_key", definition: "TEXT" },
  /** 1: the key is free again as soon as the job is claimed. */
  { name: "unique_until_start", definition: "INTEGER" },
  /** Until when the key stays taken though the job has ended, in epoch milliseconds. */
  { name: "unique_until", definition: "INTEGER" },
  /** Milliseconds for which a completed job and its result are kept; 0 for ever, NULL not at all. */
  { name: "keep_result", definition: "INTEGER" },
];

/** Jobs that can be claimed once they are due: of those with a group, the ones that have joined it. */
export const CLAIMABLE =
  "state = 'pending' AND attempts < max_attempts AND (group_key IS NULL OR group_seq IS NOT NULL)";

/**
 * The order in which jobs of a priority are claimed. One that comes to its turn in its group stands behind those that are due
 * at the same moment: within a millisecond there may be many claims.
 */
export const CLAIM_ORDER = "due, turn_ms, id";

/**
 * Ready, claimed, expiring and exhausted rows are indexed apart: in one index (honker's) every claim walks over what is
 * delayed or in flight. A partial index costs an insert nothing where its condition is false.
 */
export const LIVE_INDEXES: string = `
  CREATE INDEX IF NOT EXISTS _honkbun_live_claim
    ON _honker_live(queue, priority DESC, ${CLAIM_ORDER}) WHERE ${CLAIMABLE};
  CREATE INDEX IF NOT EXISTS _honkbun_live_expiry
    ON _honker_live(queue, expires_at) WHERE state <> 'processing' AND expires_at IS NOT NULL;
  CREATE INDEX IF NOT EXISTS _honkbun_live_exhausted
    ON _honker_live(queue) WHERE state = 'pending' AND attempts >= max_attempts;
  CREATE UNIQUE INDEX IF NOT EXISTS _honkbun_live_unique
    ON _honker_live(queue, unique_key) WHERE unique_key IS NOT NULL;
`;

/** Keyed by job id and apart from the job, because honker drops columns that it does not know when it buries one. */
export const OWN_TABLES = `
  CREATE TABLE IF NOT EXISTS _honkbun_errors (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    message TEXT NOT NULL,
    stack TEXT,
    at INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS _honkbun_errors_job ON _honkbun_errors(job_id);
`;

export const HISTORY_COLUMNS: readonly Column[] = [
  /** 1: errors or progress are stored apart from the job. */
  { name: "has_history", definition: "INTEGER" },
];

/** Jobs' progress, what remains of jobs that ended, and what is said of whole queues. */
export const QUEUE_TABLES = `
  -- Apart from the job: a job's row is written anew as a whole, its payload included.
  CREATE TABLE IF NOT EXISTS _honkbun_progress (
    job_id INTEGER PRIMARY KEY,
    value TEXT NOT NULL,
    -- counts the changes, for those who watch
    revision INTEGER NOT NULL DEFAULT 1
  );

  -- due, started_at and completed_at in milliseconds, the others in seconds; expires_at NULL: kept for ever, 0: for as long
  -- as the queue keeps completed jobs
  CREATE TABLE IF NOT EXISTS _honkbun_completed (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    completed_at INTEGER NOT NULL,
    expires_at INTEGER
  );
  CREATE INDEX IF NOT EXISTS _honkbun_completed_queue ON _honkbun_completed(queue);
  CREATE INDEX IF NOT EXISTS _honkbun_completed_expiry ON _honkbun_completed(expires_at) WHERE expires_at > 0;
  CREATE INDEX IF NOT EXISTS _honkbun_completed_retained
    ON _honkbun_completed(queue, completed_at, id) WHERE expires_at = 0;

  -- seq tells a worker what was cancelled since it looked last; due and cancelled_at in milliseconds. The payload comes
  -- last, so that looking for old ones does not walk over it.
  CREATE TABLE IF NOT EXISTS _honkbun_cancelled (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id INTEGER NOT NULL UNIQUE,
    cancelled_at INTEGER NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    payload TEXT NOT NULL
  );

  -- what is said of whole queues; NULL: nothing. rate_per and ages in milliseconds; keep_completed 1: they are kept, 0: no more
  CREATE TABLE IF NOT EXISTS _honkbun_queues (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    concurrency INTEGER,
    group_concurrency INTEGER,
    rate_limit INTEGER,
    rate_per INTEGER,
    keep_completed INTEGER,
    keep_completed_age INTEGER,
    keep_completed_count INTEGER,
    keep_dead_age INTEGER,
    keep_dead_count INTEGER,
    -- 1: what is kept has changed, and there may be much that is to go
    has_to_prune INTEGER
  ) WITHOUT ROWID;

  -- honkbun handles that hold something, and their processes: pid, when it was started, and where that means anything
  CREATE TABLE IF NOT EXISTS _honkbun_handles (
    handle TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    scope TEXT NOT NULL
  ) WITHOUT ROWID;

  CREATE INDEX IF NOT EXISTS _honkbun_dead_queue ON _honker_dead(queue);
  CREATE INDEX IF NOT EXISTS _honkbun_dead_age ON _honker_dead(queue, died_at, id);
`;
