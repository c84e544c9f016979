/** Apart from honker's table, whose reader throws on an expression that it does not know. */
export const SCHEDULE_TABLES = `
  -- times in epoch milliseconds, durations in milliseconds
  CREATE TABLE IF NOT EXISTS _honkbun_schedules (
    name TEXT PRIMARY KEY,
    enabled INTEGER NOT NULL,
    -- NULL: never again
    next_fire_at INTEGER,
    -- either an expression and its zone, or a duration and one of its boundaries
    cron TEXT,
    timezone TEXT,
    every INTEGER,
    anchor INTEGER,
    start_at INTEGER,
    end_at INTEGER,
    jitter INTEGER NOT NULL,
    -- how many boundaries are made up for that nobody was there to see; -1: one for all of them
    missed INTEGER NOT NULL,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    expires_in INTEGER,
    keep_result INTEGER,
    group_key TEXT,
    unique_key TEXT
  );
  CREATE INDEX IF NOT EXISTS _honkbun_schedules_next ON _honkbun_schedules(next_fire_at)
    WHERE enabled = 1 AND next_fire_at IS NOT NULL;
  CREATE INDEX IF NOT EXISTS _honkbun_scheduler_tasks_next ON _honker_scheduler_tasks(next_fire_at) WHERE enabled = 1;

  -- when schedules were last fired
  CREATE TABLE IF NOT EXISTS _honkbun_scheduler (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    ticked_at INTEGER NOT NULL
  );
`;
