// What follows the end of a job that others wait for is done by triggers, because honker and plain SQL end jobs too. They
// run on whatever connection that is, and so use nothing but plain SQL.

import type { Column } from "./schema.ts";

/** A job that has joined its group and has its turn: nobody else of the group may, beyond the group's concurrency. */
export const ACTIVE = "group_seq IS NOT NULL AND state <> 'blocked'";
/** A job that will join its group once it is due. */
export const UNJOINED = "group_key IS NOT NULL AND group_seq IS NULL AND state IN ('pending', 'joining')";
/** The order in which the blocked jobs of a group have their turn. */
export const GROUP_ORDER = "group_seq, id";

/** Whether a group has room for one more that is active, beside the others than `id`. */
export function hasRoom(queue: string, group: string, id = "0"): string {
  return `(SELECT count(*) FROM _honker_live AS other
      WHERE other.queue = ${queue} AND other.group_key = ${group} AND other.group_seq IS NOT NULL
        AND other.state <> 'blocked' AND other.id <> ${id})
      < coalesce((SELECT group_concurrency FROM _honkbun_queues WHERE name = ${queue}), 1)`;
}

/** What becomes of a job that is claimed no longer: of a group that has no room any more, it waits again for its turn. */
export const UNCLAIMED: string = `iif(
  group_seq IS NULL OR ${hasRoom("_honker_live.queue", "_honker_live.group_key", "_honker_live.id")}, 'pending', 'blocked')`;

export const LAST_ID = "coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_honker_live'), 0)";

/** So many jobs may join groups, once they are due, between two that are enqueued. */
const BETWEEN = 2 ** 24;

/** Where a job with this id stands in its group, when it joins as it is enqueued. */
export function seqOf(id: string): string {
  return `(${id}) * ${BETWEEN}`;
}

/** Where one stands that joins now: behind all that have joined, in front of those that are enqueued later. */
export function nextSeq(queue: string, group: string): string {
  const last = (where: string): string =>
    `coalesce((SELECT max(group_seq) FROM _honker_live WHERE queue = ${queue} AND group_key = ${group} AND ${where}), 0)`;
  return `1 + max(${seqOf(LAST_ID)}, ${last(ACTIVE)}, ${last("state = 'blocked'")})`;
}

export const FLOW_COLUMNS: readonly Column[] = [
  /** 1: something follows the job's end, by the trigger below. */
  { name: "is_awaited", definition: "INTEGER" },
  /** What a job that has the same unique key and comes later does: 1 replaces this one, 2 is refused, NULL stands back. */
  { name: "on_duplicate", definition: "INTEGER" },
];

export const FLOW_TABLES: string = `
  CREATE INDEX IF NOT EXISTS _honkbun_live_group ON _honker_live(queue, group_key) WHERE ${ACTIVE};
  CREATE INDEX IF NOT EXISTS _honkbun_live_blocked
    ON _honker_live(queue, group_key, ${GROUP_ORDER}) WHERE state = 'blocked';
  CREATE INDEX IF NOT EXISTS _honkbun_live_unjoined ON _honker_live(queue, due, id) WHERE ${UNJOINED};
  CREATE INDEX IF NOT EXISTS _honkbun_live_unjoined_group ON _honker_live(queue, group_key, due) WHERE ${UNJOINED};
  CREATE INDEX IF NOT EXISTS _honkbun_live_waiting ON _honker_live(queue) WHERE state = 'waiting';

  -- unique keys that stay taken though their job has ended; until in milliseconds
  CREATE TABLE IF NOT EXISTS _honkbun_unique_windows (
    queue TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, unique_key)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS _honkbun_unique_windows_until ON _honkbun_unique_windows(until);

  -- child runs after parent; outcome 0: the parent lives, 1: it ended, 2: it failed, and that buries the child
  CREATE TABLE IF NOT EXISTS _honkbun_dependencies (
    parent INTEGER NOT NULL,
    child INTEGER NOT NULL,
    buries INTEGER NOT NULL,
    outcome INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (parent, child)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS _honkbun_dependencies_child ON _honkbun_dependencies(child, outcome);
  CREATE INDEX IF NOT EXISTS _honkbun_dependencies_failed ON _honkbun_dependencies(child) WHERE outcome = 2;

  -- when jobs of queues with a rate were started, in milliseconds, how many then, and how many by then
  CREATE TABLE IF NOT EXISTS _honkbun_starts (
    queue TEXT NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (queue, at)
  ) WITHOUT ROWID;

  -- what a buried job was, and honker's table has no columns for
  CREATE TABLE IF NOT EXISTS _honkbun_buried (
    id INTEGER PRIMARY KEY,
    group_key TEXT,
    unique_key TEXT,
    unique_until_start INTEGER,
    on_duplicate INTEGER,
    keep_result INTEGER
  );
`;

/**
 * The next of a group comes at the end of what is ready, or a large group would keep others from their turn: it is due when the
 * one before it was claimed, and not before its own time.
 */
const TURN = `max(due, iif(
      old.state = 'processing', iif(instr(old.worker_id, '~') = 0, unixepoch() * 1000, coalesce(old.turn_ms, due)), due))`;

/** A failed parent: honker deletes it first and buries it then, when what waited for it has been released already. */
const FAILED = `
    UPDATE _honkbun_dependencies SET outcome = 2 WHERE parent = new.id AND buries = 1;
    UPDATE _honker_live SET state = 'waiting'
      WHERE state IN ('pending', 'joining')
        AND id IN (SELECT child FROM _honkbun_dependencies WHERE parent = new.id AND outcome = 2);`;

export const FLOW_TRIGGERS: string = `
  CREATE TRIGGER IF NOT EXISTS _honkbun_live_ended AFTER DELETE ON _honker_live WHEN old.is_awaited = 1
  BEGIN
    UPDATE _honker_live SET state = 'pending', run_at = ${TURN} / 1000, due_ms = ${TURN}, turn_ms = ${TURN}
      WHERE id = (
        SELECT id FROM _honker_live
        WHERE queue = old.queue AND group_key = old.group_key AND state = 'blocked' ORDER BY ${GROUP_ORDER} LIMIT 1
      ) AND ${hasRoom("old.queue", "old.group_key")};

    INSERT OR REPLACE INTO _honkbun_unique_windows (queue, unique_key, job_id, until)
      SELECT old.queue, old.unique_key, old.id, old.unique_until
      WHERE old.unique_key IS NOT NULL AND old.unique_until IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM _honkbun_cancelled WHERE id = old.id);

    UPDATE _honkbun_dependencies SET outcome = 1 WHERE parent = old.id AND outcome = 0;
    UPDATE _honker_live SET state = iif(group_key IS NULL, 'pending', 'joining')
      WHERE state = 'waiting' AND id IN (SELECT child FROM _honkbun_dependencies WHERE parent = old.id)
        AND NOT EXISTS (SELECT 1 FROM _honkbun_dependencies WHERE child = _honker_live.id AND outcome = 0)
        AND NOT EXISTS (SELECT 1 FROM _honkbun_dependencies WHERE child = _honker_live.id AND outcome = 2);
    DELETE FROM _honkbun_dependencies WHERE child = old.id;
  END;

  CREATE TRIGGER IF NOT EXISTS _honkbun_dead_added AFTER INSERT ON _honker_dead
  BEGIN
    INSERT OR REPLACE INTO _honkbun_buried
      SELECT id, group_key, unique_key, unique_until_start, on_duplicate, keep_result FROM _honker_live
      WHERE id = new.id AND (group_key IS NOT NULL OR unique_key IS NOT NULL OR keep_result IS NOT NULL);
    ${FAILED}
  END;

  CREATE TRIGGER IF NOT EXISTS _honkbun_dead_removed AFTER DELETE ON _honker_dead
  BEGIN
    DELETE FROM _honkbun_buried WHERE id = old.id;
  END;

  CREATE TRIGGER IF NOT EXISTS _honkbun_cancelled_added AFTER INSERT ON _honkbun_cancelled
  BEGIN
    ${FAILED}
  END;
`;
