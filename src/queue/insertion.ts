import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { WriteGroup } from "../sqlite/write-group.ts";
import type { JobTerms } from "./enqueue-options.ts";

/** A job as it is stored: the values of COLUMNS. */
export type NewJob = readonly [
  queue: string,
  payload: string,
  priority: number,
  runAt: number,
  dueMs: number,
  maxAttempts: number,
  createdAt: number,
  expiresAt: number | null,
  keepResult: number | null,
];

const COLUMNS = "queue, payload, priority, run_at, due_ms, max_attempts, created_at, expires_at, keep_result";
const WIDTH = 9;
/** Rows of one INSERT. Measured: fewer pay for more statements, more for their many parameters. */
const CHUNK = 32;

export function newJob(
  queue: string,
  payload: string,
  { due, priority, maxAttempts, expiresAt }: JobTerms,
  keepResult: number | null,
  now: number,
): NewJob {
  const [runAt, createdAt] = [toUnixSeconds(due), toUnixSeconds(now)];
  return [queue, payload, priority, runAt, due, maxAttempts, createdAt, expiresAt, keepResult];
}

/** Stores one job by one statement. Returns its id. */
export function insertJob(connection: Connection, job: NewJob): number {
  return Number(connection.use(prepareInsertStatements).one.run(...job).lastInsertRowid);
}

/** Stores jobs, in a transaction. Returns their ids in order. */
export function insertJobs(connection: Connection, jobs: readonly NewJob[]): number[] {
  const { chunk, hasTriggers } = connection.use(prepareInsertStatements);
  const ids: number[] = [];
  let index = 0;
  // The rows of one statement get consecutive ids (AUTOINCREMENT), unless a trigger inserts others between.
  if (jobs.length >= CHUNK && hasTriggers.get() === null) {
    for (; index + CHUNK <= jobs.length; index += CHUNK) {
      const last = Number(chunk.run(...jobs.slice(index, index + CHUNK).flat()).lastInsertRowid);
      for (let id = last - CHUNK + 1; id <= last; id++) ids.push(id);
    }
  }
  for (const job of jobs.slice(index)) ids.push(insertJob(connection, job));
  return ids;
}

interface Batch {
  readonly jobs: NewJob[];
  /** Null when they cannot be stored together. */
  readonly inserted: Promise<readonly number[] | null>;
}

/** Stores jobs of all queues that come in one tick together, in one transaction. */
export class SharedInsertion {
  readonly #group: WriteGroup;
  #batch: Batch | undefined;

  constructor(group: WriteGroup) {
    this.#group = group;
  }

  /** Resolves with the job's id once it is committed. */
  async insert(job: NewJob): Promise<number> {
    this.#batch ??= this.#begin();
    const { jobs, inserted } = this.#batch;
    const index = jobs.push(job) - 1;
    const ids = await inserted;
    // Each by itself, so that none fails but those that cannot be stored.
    return ids?.[index] ?? this.#group.write((connection) => insertJob(connection, job));
  }

  #begin(): Batch {
    const jobs: NewJob[] = [];
    // What comes once it has begun, or failed to, is for the next transaction.
    const close = (): void => {
      if (this.#batch === batch) this.#batch = undefined;
    };
    const inserted = this.#group
      .write((connection) => {
        close();
        return insertJobs(connection, jobs);
      })
      .catch(() => {
        close();
        return null;
      });
    const batch = { jobs, inserted };
    return batch;
  }
}

interface InsertStatements {
  readonly one: Statement<never, [...NewJob]>;
  readonly chunk: Statement<never, (string | number | null)[]>;
  /** Whether the application has triggers on the table. */
  readonly hasTriggers: Statement<{ n: number }, []>;
}

function prepareInsertStatements(connection: Connection): InsertStatements {
  const row = (from: number): string =>
    `(${Array.from({ length: WIDTH }, (_, column) => `?${from + column + 1}`).join(", ")})`;
  const rows = Array.from({ length: CHUNK }, (_, index) => row(index * WIDTH));
  return {
    one: connection.prepare(`INSERT INTO _honker_live (${COLUMNS}) VALUES ${row(0)}`),
    chunk: connection.prepare(`INSERT INTO _honker_live (${COLUMNS}) VALUES ${rows.join(", ")}`),
    hasTriggers: connection.prepare(
      `SELECT 1 AS n FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema)
       WHERE type = 'trigger' AND tbl_name = '_honker_live' AND name NOT GLOB '_honkbun_*' LIMIT 1`,
    ),
  };
}
