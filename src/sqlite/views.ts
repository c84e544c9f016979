/** A time in epoch milliseconds, for people. */
function time(milliseconds: string): string {
  return `strftime('%Y-%m-%dT%H:%M:%fZ', ${milliseconds} / 1000.0, 'unixepoch')`;
}

/** For reading by whatever program: times as text in UTC, and the names that the API has. */
const NOW = "(julianday('now') - 2440587.5) * 86400000";

export const VIEWS: string = `
  CREATE VIEW IF NOT EXISTS honkbun_jobs AS
  SELECT id, queue,
    CASE
      WHEN state = 'processing' THEN 'processing'
      WHEN state NOT IN ('pending', 'joining') THEN 'blocked'
      WHEN due <= ${NOW} THEN 'ready'
      ELSE 'delayed'
    END AS state,
    payload, priority, attempts, max_attempts, group_key, unique_key,
    (SELECT value FROM _honkbun_progress WHERE job_id = id) AS progress,
    iif(state = 'processing', worker_id, NULL) AS worker,
    ${time("created_at * 1000")} AS enqueued_at,
    ${time("due")} AS run_at,
    iif(state = 'processing', ${time("claim_expires_at * 1000")}, NULL) AS claim_expires_at,
    ${time("expires_at * 1000")} AS expires_at,
    NULL AS completed_at
  FROM _honker_live
  UNION ALL
  SELECT id, queue, 'completed', payload, priority, attempts, max_attempts, NULL, NULL,
    (SELECT value FROM _honkbun_progress WHERE job_id = id), NULL,
    ${time("created_at * 1000")}, ${time("due")}, NULL, NULL, ${time("completed_at")}
  FROM _honkbun_completed;

  CREATE VIEW IF NOT EXISTS honkbun_dead AS
  SELECT id, queue, payload, priority, attempts, max_attempts, last_error AS error,
    ${time("created_at * 1000")} AS enqueued_at, ${time("died_at * 1000")} AS died_at
  FROM _honker_dead;

  CREATE VIEW IF NOT EXISTS honkbun_queues AS
  SELECT names.queue, coalesce(paused, 0) AS paused,
    coalesce(ready, 0) AS ready, coalesce(delayed, 0) AS delayed, coalesce(processing, 0) AS processing,
    coalesce(blocked, 0) AS blocked, coalesce(completed, 0) AS completed, coalesce(dead, 0) AS dead, oldest_ready_at
  FROM (
    SELECT queue FROM _honker_live UNION SELECT queue FROM _honkbun_completed
    UNION SELECT queue FROM _honker_dead UNION SELECT name FROM _honkbun_queues
  ) AS names
  LEFT JOIN (
    SELECT queue, sum(state = 'ready') AS ready, sum(state = 'delayed') AS delayed, sum(state = 'processing') AS processing,
      sum(state = 'blocked') AS blocked, sum(state = 'completed') AS completed,
      min(iif(state = 'ready', run_at, NULL)) AS oldest_ready_at
    FROM honkbun_jobs GROUP BY queue
  ) AS jobs ON jobs.queue = names.queue
  LEFT JOIN (SELECT queue, count(*) AS dead FROM _honker_dead GROUP BY queue) AS buried ON buried.queue = names.queue
  LEFT JOIN _honkbun_queues AS said ON said.name = names.queue;

  CREATE VIEW IF NOT EXISTS honkbun_streams AS
  SELECT topic, count(*) AS events, min(offset) AS first_offset, max(offset) AS last_offset,
    ${time("max(created_at) * 1000")} AS last_at,
    (SELECT json_group_object(name, offset) FROM _honker_stream_consumers AS consumers
      WHERE consumers.topic = events.topic) AS consumers
  FROM _honker_stream AS events GROUP BY topic;

  CREATE VIEW IF NOT EXISTS honkbun_schedules AS
  SELECT name, enabled, iif(enabled, ${time("next_fire_at")}, NULL) AS next_fire_at, cron, timezone,
    every / 1000.0 AS every_seconds, queue, payload, 'honkbun' AS made_by
  FROM _honkbun_schedules
  UNION ALL
  SELECT name, enabled, iif(enabled, ${time("next_fire_at * 1000")}, NULL), cron_expr, NULL, NULL, queue, payload, 'honker'
  FROM _honker_scheduler_tasks;
`;
