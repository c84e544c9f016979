import type { Clock } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { UNJOINED } from "../sqlite/flow-schema.ts";
import type { Pool } from "../sqlite/pool.ts";
import { type JobInfo, type JobState, readJobs, type Schemas } from "./job-info.ts";
import { EXHAUSTED, LEVELS, prepareQueueStatements, WAITING } from "./statements.ts";

export type Counts = Record<JobState, number>;

const STATES = [
  "ready",
  "delayed",
  "processing",
  "blocked",
  "completed",
  "dead",
] as const satisfies readonly JobState[];

export function isJobState(value: unknown): value is JobState {
  return STATES.includes(value as JobState);
}

/** Looks at the jobs of one queue: inside `db.transaction` with what it has written, else as they are committed. */
export class Inspection<P, R> {
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #queue: string;
  readonly #schemas: Schemas;
  /** Counts hold until somebody commits, or a delayed job becomes ready. */
  #counted:
    | { readonly version: string; readonly since: number; readonly until: number; readonly counts: Counts }
    | undefined;

  constructor(pool: Pool, clock: Clock, queue: string, schemas: Schemas) {
    this.#pool = pool;
    this.#clock = clock;
    this.#queue = queue;
    this.#schemas = schemas;
  }

  get(id: number): JobInfo<P, R> | null {
    return this.#pool.read((connection) => this.#read(connection, [id])[0] ?? null);
  }

  /** Whatever is written in an open transaction. */
  getCommitted(id: number): JobInfo<P, R> | null {
    return this.#pool.readCommitted((connection) => this.#read(connection, [id])[0] ?? null);
  }

  /** By id, after an id, at most so many. */
  list(state: JobState | undefined, after: number, limit: number): JobInfo<P, R>[] {
    const now = this.#clock();
    return this.#pool.read((connection) => {
      const { listed } = connection.use(prepareInspectionStatements);
      const ids = (state === undefined ? STATES : [state])
        .flatMap((one) => listed[one].all(this.#queue, after, limit, now))
        .map(({ id }) => id)
        .sort((a, b) => a - b);
      return this.#read(connection, ids.slice(0, limit));
    });
  }

  counts(): Counts {
    const now = this.#clock();
    const version = this.#pool.committedVersion();
    const known = this.#counted;
    if (known !== undefined && known.version === version && now >= known.since && now < known.until)
      return { ...known.counts };
    return this.#pool.read((connection) => {
      const { counts: count, nextReady } = connection.use(prepareInspectionStatements);
      const { due, exhausted, delayed, joining, ...others } = count.get(this.#queue, now) as CountRow;
      const counts = { ready: due + exhausted, delayed: delayed + joining, ...others };
      if (version !== null) {
        const until = nextReady.get(this.#queue, now)?.due ?? Number.POSITIVE_INFINITY;
        this.#counted = { version, since: now, until, counts };
      }
      return { ...counts };
    });
  }

  latency(): number {
    const now = this.#clock();
    const first = this.#pool.read((connection) => {
      const { due, joins_at } = connection.use(prepareQueueStatements).nextDue.get(this.#queue) ?? NONE;
      return Math.min(due ?? now, joins_at ?? now);
    });
    return Math.max(now - first, 0);
  }

  #read(connection: Connection, ids: readonly number[]): JobInfo<P, R>[] {
    return readJobs(connection, this.#queue, ids, this.#clock(), this.#schemas);
  }
}

const NONE = { due: null, joins_at: null };

interface CountRow {
  readonly due: number;
  readonly delayed: number;
  /** Those that join their groups later. */
  readonly joining: number;
  /** Without attempts left, and not buried yet. */
  readonly exhausted: number;
  readonly processing: number;
  readonly blocked: number;
  readonly completed: number;
  readonly dead: number;
}

interface InspectionStatements {
  /** Ids in order, by state: queue, after an id, at most so many, now in milliseconds. */
  readonly listed: Record<JobState, Statement<{ id: number }, [string, number, number, number]>>;
  /** queue, now in milliseconds. */
  readonly counts: Statement<CountRow, [string, number]>;
  /** When the next delayed job is due: queue, now, in milliseconds. */
  readonly nextReady: Statement<{ due: number | null }, [string, number]>;
}

const OURS = "queue = ?1";

function prepareInspectionStatements(connection: Connection): InspectionStatements {
  // `+id`: by the partial index of the state, sorted after; by rowid the rows of all other queues would be walked.
  const listed = (
    table: string,
    ...states: string[]
  ): Statement<{ id: number }, [string, number, number, number]> =>
    connection.prepare(
      `${states.map((where) => `SELECT id FROM ${table} WHERE +id > ?2 AND ${where}`).join(" UNION ALL ")}
       ORDER BY 1 LIMIT ?3`,
    );
  const count = (table: string, where: string): string => `(SELECT count(*) FROM ${table} WHERE ${where})`;
  return {
    listed: {
      ready: listed(
        "_honker_live",
        `${WAITING} AND due <= ?4`,
        `${OURS} AND ${UNJOINED} AND due <= ?4`,
        EXHAUSTED,
      ),
      delayed: listed("_honker_live", `${WAITING} AND due > ?4`, `${OURS} AND ${UNJOINED} AND due > ?4`),
      processing: listed("_honker_live", `${OURS} AND state = 'processing' AND ?4 IS NOT NULL`),
      blocked: listed(
        "_honker_live",
        `${OURS} AND state = 'blocked' AND ?4 IS NOT NULL`,
        `${OURS} AND state = 'waiting'`,
      ),
      completed: listed("_honkbun_completed", `${OURS} AND ?4 IS NOT NULL`),
      dead: listed("_honker_dead", `${OURS} AND ?4 IS NOT NULL`),
    },
    // Priority by priority, as ranges of the index, so that each row is passed once and nothing compared.
    counts: connection.prepare(
      `WITH ${LEVELS}
       SELECT ${count("_honker_live", EXHAUSTED)} AS exhausted,
         (SELECT coalesce(sum(${count("_honker_live", `${WAITING} AND priority = level.priority AND due <= ?2`)}), 0)
          FROM level) + ${count("_honker_live", `${OURS} AND ${UNJOINED} AND due <= ?2`)} AS due,
         (SELECT coalesce(sum(${count("_honker_live", `${WAITING} AND priority = level.priority AND due > ?2`)}), 0)
          FROM level) AS delayed,
         ${count("_honker_live", `${OURS} AND ${UNJOINED} AND due > ?2`)} AS joining,
         ${count("_honker_live", `${OURS} AND state = 'processing'`)} AS processing,
         ${count("_honker_live", `${OURS} AND state = 'blocked'`)}
           + ${count("_honker_live", `${OURS} AND state = 'waiting'`)} AS blocked,
         ${count("_honkbun_completed", OURS)} AS completed,
         ${count("_honker_dead", OURS)} AS dead`,
    ),
    nextReady: connection.prepare(
      `WITH ${LEVELS}
       SELECT min(due) AS due FROM (
         SELECT (SELECT due FROM _honker_live
           WHERE ${WAITING} AND priority = level.priority AND due > ?2 ORDER BY due LIMIT 1) AS due FROM level
         UNION ALL
         SELECT min(due) FROM _honker_live WHERE ${OURS} AND ${UNJOINED} AND due > ?2)`,
    ),
  };
}
