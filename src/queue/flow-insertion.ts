import { DuplicateJobError, NotStoredError } from "../errors.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { hasRoom, LAST_ID, seqOf, UNJOINED } from "../sqlite/flow-schema.ts";
import { assertStored, insertedId } from "../sqlite/stored.ts";
import { buryDependents, type OnSwept } from "./burial.ts";
import type { JobFlow, UniqueTerms } from "./flow-options.ts";
import { COLUMNS, type Inserted, type Values } from "./new-job.ts";

/** What a job does when it is the newcomer, as it is stored. */
const ON_DUPLICATE = { keep: null, replace: 1, reject: 2 } as const;

/** Stores a job that stands alone but for its group and its key, by one statement; null when that takes more. */
export function tryInsertFlow(
  connection: Connection,
  values: Values,
  flow: JobFlow,
  now: number,
): number | null {
  return flow.after.length > 0 ? null : insert(connection, values, flow, now, false);
}

/**
 * Stores a job that stands in relation to others, or lets the one that has its key stand for it.
 * @throws DuplicateJobError, RangeError for a job before it that there has never been
 */
export function insertFlow(
  connection: Connection,
  values: Values,
  flow: JobFlow,
  now: number,
  onSwept: OnSwept,
): Inserted {
  const waits = flow.after.length > 0 && hasOpenParents(connection, flow);
  for (;;) {
    const id = insert(connection, values, flow, now, waits);
    if (id !== null) {
      if (waits) depend(connection, id, flow, now, onSwept);
      return { id, created: true };
    }
    const existing = standInFor(connection, values, flow.unique as UniqueTerms, now);
    if (existing !== null) return { id: existing.id, created: false };
  }
}

function insert(
  connection: Connection,
  values: Values,
  { group, unique }: JobFlow,
  now: number,
  waits: boolean,
): number | null {
  const statements = connection.use(prepareFlowStatements);
  const [, , , , due] = values;
  const isAwaited = group !== null || waits || (unique !== null && unique.until !== null) ? 1 : null;
  const terms: FlowValues = [
    unique?.key ?? null,
    unique?.untilStart ? 1 : null,
    unique?.until ?? null,
    unique === null ? null : ON_DUPLICATE[unique.onDuplicate],
    isAwaited,
    now,
  ];
  const changes =
    group === null && !waits
      ? statements.insertKeyed.run(...values, ...terms)
      : statements.insert.run(
          ...values,
          ...terms,
          group,
          waits ? "waiting" : group !== null && due > now ? "joining" : "pending",
        );
  const isTaken = unique !== null && Number(changes.changes) === 0; // the key, by another
  return isTaken ? null : insertedId(connection, "_honker_live", changes);
}

/** The job that has a key, and whether it was changed to what the newcomer says. */
export interface StandIn {
  readonly id: number;
  readonly isReplaced: boolean;
}

/**
 * Lets the job that has the key stand for a newcomer; null when it has it no longer.
 * @throws DuplicateJobError
 */
export function standInFor(
  connection: Connection,
  values: Values,
  unique: UniqueTerms,
  now: number,
): StandIn | null {
  const { holder, window, freeKey, replace } = connection.use(prepareFlowStatements);
  const [queue, payload, priority, runAt, dueMs, maxAttempts, , expiresAt, keepResult] = values;
  const { key, onDuplicate, untilStart, until } = unique;
  const job = holder.get(queue, key, now);
  if (job?.is_free === 1) {
    assertStored("_honker_live", freeKey.run(job.id).changes > 0);
    return null;
  }
  const id = job?.id ?? window.get(queue, key)?.job_id;
  if (id === undefined) {
    throw new NotStoredError(
      `the unique key ${key} of ${queue} is taken by nobody: a trigger has the INSERT ignored`,
    );
  }
  if (onDuplicate === "reject") {
    throw new DuplicateJobError(`job ${id} of ${queue} has the unique key ${key}`, id);
  }
  let isReplaced = false;
  if (onDuplicate === "replace" && job !== null) {
    const { changes } = replace.run(
      job.id,
      payload,
      priority,
      runAt,
      dueMs,
      maxAttempts,
      expiresAt,
      keepResult,
      untilStart ? 1 : null,
      until,
    );
    isReplaced = changes > 0;
  }
  return { id, isReplaced };
}

/** The last id that was given to a job. */
export function lastJobId(connection: Connection): number {
  return (connection.use(prepareFlowStatements).lastId.get() as { last: number }).last;
}

/** @throws RangeError */
function hasOpenParents(connection: Connection, { after, buries, call }: JobFlow): boolean {
  const { openParents } = connection.use(prepareFlowStatements);
  const last = lastJobId(connection);
  const unknown = after.find((id) => id < 1 || id > last);
  if (unknown !== undefined) throw new RangeError(`${call}: after: there has never been a job ${unknown}`);
  return openParents.get(JSON.stringify(after), buries ? 1 : 0) !== null;
}

function depend(
  connection: Connection,
  id: number,
  { after, buries }: JobFlow,
  now: number,
  onSwept: OnSwept,
): void {
  const { addParents, awaitParents, hasFailed } = connection.use(prepareFlowStatements);
  const parents = JSON.stringify(after);
  addParents.run(parents, buries ? 1 : 0, id);
  awaitParents.run(parents);
  if (hasFailed.get(id) !== null) buryDependents(connection, now, onSwept);
}

/** Key, until start, until when, on duplicate, whether something follows its end, now in milliseconds. */
type FlowValues = readonly [string | null, 1 | null, number | null, 1 | 2 | null, 1 | null, number];

interface FlowStatements {
  /** A job with a key and nothing else: the values of COLUMNS, FlowValues. */
  readonly insertKeyed: Statement<never, [...Values, ...FlowValues]>;
  /** The values of COLUMNS, FlowValues, group, state unless it is blocked. */
  readonly insert: Statement<never, [...Values, ...FlowValues, string | null, string]>;
  /** Which job has a key, and whether it has begun and needs it no longer: queue, key, now in milliseconds. */
  readonly holder: Statement<{ id: number; is_free: number }, [string, string, number]>;
  readonly window: Statement<{ job_id: number }, [string, string]>;
  readonly freeKey: Statement<never, [number]>;
  /** id, payload, priority, due in seconds and in milliseconds, most attempts, expiry, how long to keep, until start, until when. */
  readonly replace: Statement<
    never,
    [
      number,
      string,
      number,
      number,
      number,
      number,
      number | null,
      number | null,
      number | null,
      number | null,
    ]
  >;
  readonly lastId: Statement<{ last: number }, []>;
  /** Whether any of them has yet to end, or failed where that counts: ids as a JSON array, 1 if it counts. */
  readonly openParents: Statement<{ n: number }, [string, number]>;
  /** ids as a JSON array, whether a failure counts, the dependent. */
  readonly addParents: Statement<never, [string, number, number]>;
  /** ids as a JSON array. */
  readonly awaitParents: Statement<never, [string]>;
  /** Whether a job was to run after another that has failed. */
  readonly hasFailed: Statement<{ n: number }, [number]>;
}

function prepareFlowStatements(connection: Connection): FlowStatements {
  const lives = "EXISTS (SELECT 1 FROM _honker_live WHERE id = value)";
  const failed = `(EXISTS (SELECT 1 FROM _honker_dead WHERE id = value)
    OR EXISTS (SELECT 1 FROM _honkbun_cancelled WHERE id = value))`;
  const open = `(${lives} OR (?2 = 1 AND ${failed}))`;
  const columns = `${COLUMNS}, unique_key, unique_until_start, unique_until, on_duplicate, is_awaited`;
  const values = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14";
  // Looked for, and not left to the index to refuse: that would use up an id.
  const isFree = `(
    NOT EXISTS (SELECT 1 FROM _honker_live WHERE queue = ?1 AND unique_key = ?10 AND unique_key IS NOT NULL)
    AND NOT EXISTS (
      SELECT 1 FROM _honkbun_unique_windows WHERE queue = ?1 AND unique_key = ?10 AND until > ?15))`;
  // Others of the group may be due that have yet to join, and come before it.
  const joins = `?16 IS NOT NULL AND ?17 = 'pending' AND NOT EXISTS (
    SELECT 1 FROM _honker_live WHERE queue = ?1 AND group_key = ?16 AND ${UNJOINED} AND due <= ?15)`;
  return {
    insertKeyed: connection.prepare(`INSERT INTO _honker_live (${columns}) SELECT ${values} WHERE ${isFree}`),
    insert: connection.prepare(
      `INSERT INTO _honker_live (${columns}, group_key, group_seq, state)
       SELECT ${values}, ?16,
         iif(${joins}, ${seqOf(`${LAST_ID} + 1`)}, NULL),
         iif(?16 IS NULL OR ?17 <> 'pending', ?17,
           iif(NOT (${joins}), 'joining', iif(${hasRoom("?1", "?16")}, 'pending', 'blocked')))
       WHERE ?10 IS NULL OR ${isFree}`,
    ),
    holder: connection.prepare(
      `SELECT id, unique_until_start = 1 AND (state = 'processing' OR attempts > 0)
         AND coalesce(unique_until, 0) <= ?3 AS is_free
       FROM _honker_live WHERE queue = ?1 AND unique_key = ?2`,
    ),
    window: connection.prepare(
      "SELECT job_id FROM _honkbun_unique_windows WHERE queue = ?1 AND unique_key = ?2",
    ),
    freeKey: connection.prepare("UPDATE _honker_live SET unique_key = NULL WHERE id = ?1"),
    replace: connection.prepare(
      `UPDATE _honker_live SET payload = ?2, priority = ?3, run_at = ?4, due_ms = ?5, max_attempts = ?6, expires_at = ?7,
         keep_result = ?8, unique_until_start = ?9, unique_until = ?10, is_awaited = iif(?10 IS NULL, is_awaited, 1),
         attempts = 0, worker_id = NULL
       WHERE id = ?1 AND state <> 'processing'`,
    ),
    lastId: connection.prepare(`SELECT ${LAST_ID} AS last`),
    openParents: connection.prepare(`SELECT 1 AS n FROM json_each(?1) WHERE ${open} LIMIT 1`),
    addParents: connection.prepare(
      `INSERT INTO _honkbun_dependencies (parent, child, buries, outcome)
       SELECT value, ?3, ?2, iif(${lives}, 0, 2) FROM json_each(?1) WHERE ${open}`,
    ),
    awaitParents: connection.prepare(
      `UPDATE _honker_live SET is_awaited = 1
       WHERE id IN (SELECT value FROM json_each(?1)) AND is_awaited IS NOT 1`,
    ),
    hasFailed: connection.prepare(
      "SELECT 1 AS n FROM _honkbun_dependencies WHERE child = ?1 AND outcome = 2 LIMIT 1",
    ),
  };
}
