import type { Clock } from "../clock.ts";
import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { type JobInfo, type JobState, readJobs, type Schemas } from "./job-info.ts";
import { LEVELS, prepareQueueStatements } from "./statements.ts";

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
  #counted: { readonly version: string; readonly until: number; readonly counts: Counts } | undefined;

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
    if (known !== undefined && known.version === version && now < known.until) return { ...known.counts };
    return this.#pool.read((connection) => {
      const { counts: count, nextReady } = connection.use(prepareInspectionStatements);
      const { pending, ready, ...others } = count.get(this.#queue, now) as CountRow;
      const counts = { ready, delayed: pending - ready, ...others };
      if (version !== null) {
        const until = nextReady.get(this.#queue, now)?.due ?? Number.POSITIVE_INFINITY;
        this.#counted = { version, until, counts };
      }
      return { ...counts };
    });
  }

  latency(): number {
    const now = this.#clock();
    const { due } = this.#pool.read((connection) =>
      connection.use(prepareQueueStatements).nextDue.get(this.#queue, toUnixSeconds(now)),
    ) ?? { due: null };
    return due === null ? 0 : Math.max(now - due, 0);
  }

  #read(connection: Connection, ids: readonly number[]): JobInfo<P, R>[] {
    return readJobs(connection, this.#queue, ids, this.#clock(), this.#schemas);
  }
}

interface CountRow {
  readonly pending: number;
  readonly ready: number;
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

function prepareInspectionStatements(connection: Connection): InspectionStatements {
  // `+id`: by the partial index of the state, sorted after; by rowid the rows of all other queues would be walked.
  const listed = (
    table: string,
    where: string,
  ): Statement<{ id: number }, [string, number, number, number]> =>
    connection.prepare(
      `SELECT id FROM ${table} WHERE queue = ?1 AND +id > ?2 AND ${where} ORDER BY +id LIMIT ?3`,
    );
  const count = (table: string, where: string): string =>
    `(SELECT count(*) FROM ${table} WHERE queue = ?1 AND ${where})`;
  return {
    listed: {
      ready: listed("_honker_live", "state = 'pending' AND due <= ?4"),
      delayed: listed("_honker_live", "state = 'pending' AND due > ?4"),
      processing: listed("_honker_live", "state = 'processing' AND ?4"),
      blocked: listed("_honker_live", "state = 'blocked' AND ?4"),
      completed: listed("_honkbun_completed", "?4"),
      dead: listed("_honker_dead", "?4"),
    },
    // Ready ones priority by priority: as ranges of the index; a comparison for each row costs twice as much.
    counts: connection.prepare(
      `WITH ${LEVELS}
       SELECT ${count("_honker_live", "state = 'pending'")} AS pending,
         (SELECT coalesce(sum(${count("_honker_live", "state = 'pending' AND priority = level.priority AND due <= ?2")}), 0)
          FROM level) AS ready,
         ${count("_honker_live", "state = 'processing'")} AS processing,
         ${count("_honker_live", "state = 'blocked'")} AS blocked,
         ${count("_honkbun_completed", "true")} AS completed,
         ${count("_honker_dead", "true")} AS dead`,
    ),
    nextReady: connection.prepare(
      `WITH ${LEVELS}
       SELECT min((
         SELECT due FROM _honker_live
         WHERE queue = ?1 AND state = 'pending' AND priority = level.priority AND due > ?2 ORDER BY due LIMIT 1
       )) AS due FROM level`,
    ),
  };
}
