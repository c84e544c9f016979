import type { Changes } from "bun:sqlite";

import type { JobEvent } from "../events.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { SharedWrite } from "../sqlite/shared-write.ts";
import { insertedId } from "../sqlite/stored.ts";
import type { WriteGroup } from "../sqlite/write-group.ts";
import { collectSwept, type Failure, type OnSwept, type Swept } from "./burial.ts";
import { insertFlow, tryInsertFlow } from "./flow-insertion.ts";
import { COLUMNS, type Inserted, type NewJob, type Values } from "./new-job.ts";

/** Rows of one INSERT. Measured: fewer pay for more statements, more for their many parameters. */
const CHUNK = 32;
/** The same of jobs that differ in their payloads alone, and so have few parameters. */
const ALIKE = 60;

/** Stores one job by one statement; null when that takes more, in a transaction. */
export function tryInsertJob(connection: Connection, { values, flow, now }: NewJob): number | null {
  if (flow !== undefined) return tryInsertFlow(connection, values, flow, now);
  return insertedId(connection, "_honker_live", connection.use(prepareInsertStatements).one.run(...values));
}

/** Stores one job, in a transaction. */
export function insertJob(connection: Connection, job: NewJob, onSwept: OnSwept): Inserted {
  const { values, flow, now } = job;
  if (flow !== undefined) return insertFlow(connection, values, flow, now, onSwept);
  return { id: tryInsertJob(connection, job) as number, created: true };
}

/** Stores jobs, in a transaction. Returns their ids in order. */
export function insertJobs(connection: Connection, jobs: readonly NewJob[], onSwept: OnSwept): number[] {
  const { chunk, alike, hasTriggers } = connection.use(prepareInsertStatements);
  const ids: number[] = [];
  const inserted = (count: number, changes: Changes): void => {
    const last = insertedId(connection, "_honker_live", changes, count);
    for (let id = last - count + 1; id <= last; id++) ids.push(id);
  };
  // The rows of one statement get consecutive ids (AUTOINCREMENT), unless a trigger inserts others between.
  if (jobs.length >= CHUNK && jobs.every(({ flow }) => flow === undefined) && hasTriggers.get() === null) {
    while (ids.length + CHUNK <= jobs.length) {
      const many = jobs.slice(ids.length, ids.length + ALIKE);
      const [{ terms, values }] = many as [NewJob];
      if (many.length === ALIKE && many.every((job) => job.terms === terms)) {
        const [queue, , ...others] = values;
        inserted(ALIKE, alike.run(queue, ...others, ...many.map((job) => job.values[1])));
      } else inserted(CHUNK, chunk.run(...many.slice(0, CHUNK).flatMap((job) => job.values)));
    }
  }
  for (const job of jobs.slice(ids.length)) ids.push(insertJob(connection, job, onSwept).id);
  return ids;
}

/** Stores jobs of all queues that come in one tick together, in one transaction. */
export class SharedInsertion {
  readonly #writes: SharedWrite<NewJob, { readonly id: number; readonly swept: readonly Swept[] }>;
  readonly #emit: (event: Failure, job: JobEvent) => void;

  constructor(group: WriteGroup, emit: (event: Failure, job: JobEvent) => void) {
    this.#emit = emit;
    this.#writes = new SharedWrite(group, (connection, jobs) => {
      const { list: swept, onSwept } = collectSwept();
      const ids = insertJobs(connection, jobs, onSwept);
      return ids.map((id, index) => ({ id, swept: index === 0 ? swept : [] }));
    });
  }

  /** Resolves with the job's id once it is committed. */
  async insert(job: NewJob): Promise<number> {
    const { id, swept } = await this.#writes.add(job);
    for (const one of swept) this.#emit(one.event, one.job);
    return id;
  }
}

interface InsertStatements {
  readonly one: Statement<never, [...Values]>;
  readonly chunk: Statement<never, (string | number | null)[]>;
  /** The values of COLUMNS but for the payload, and then the payloads. */
  readonly alike: Statement<never, (string | number | null)[]>;
  /** Whether the application has triggers on the table. */
  readonly hasTriggers: Statement<{ n: number }, []>;
}

function prepareInsertStatements(connection: Connection): InsertStatements {
  const width = COLUMNS.split(",").length;
  const row = (from: number): string =>
    `(${Array.from({ length: width }, (_, column) => `?${from + column + 1}`).join(", ")})`;
  const rows = Array.from({ length: CHUNK }, (_, index) => row(index * width));
  const others = Array.from({ length: width - 2 }, (_, column) => `?${column + 2}`).join(", ");
  const alike = Array.from({ length: ALIKE }, (_, index) => `(?1, ?${width + index}, ${others})`);
  return {
    one: connection.prepare(`INSERT INTO _honker_live (${COLUMNS}) VALUES ${row(0)}`),
    chunk: connection.prepare(`INSERT INTO _honker_live (${COLUMNS}) VALUES ${rows.join(", ")}`),
    alike: connection.prepare(`INSERT INTO _honker_live (${COLUMNS}) VALUES ${alike.join(", ")}`),
    hasTriggers: connection.prepare(
      `SELECT 1 AS n FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema)
       WHERE type = 'trigger' AND lower(tbl_name) = '_honker_live' AND name NOT GLOB '_honkbun_*' LIMIT 1`,
    ),
  };
}
