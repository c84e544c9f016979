import { toUnixSeconds } from "../clock.ts";
import type { AttemptError } from "../errors.ts";
import { readStored, type Schema } from "../payload.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { EXPIRED } from "./operations.ts";
import { COPIED } from "./statements.ts";

export type JobState = "ready" | "delayed" | "processing" | "blocked" | "completed" | "dead";

/** What is known of a job, at the moment of the call. */
export interface JobInfo<P = unknown, R = unknown> {
  readonly id: number;
  readonly queue: string;
  /** A job that was cancelled or that expired is told as dead, with that as its last error. */
  readonly state: JobState;
  /** As the queue's schema puts it out; what does not fit it, as it is stored. */
  readonly payload: P;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly priority: number;
  /** To the second. */
  readonly enqueuedAt: Date;
  readonly runAt: Date;
  /** Of a completed job: when its last attempt was claimed. */
  readonly startedAt?: Date;
  /** Of a completed job. */
  readonly completedAt?: Date;
  /** The last value of `job.progress`, or null. */
  readonly progress: unknown;
  /** Of a completed job whose queue keeps results. */
  readonly result?: R;
  /** One for each attempt that failed, in order. */
  readonly errors: readonly AttemptError[];
}

interface InfoRow {
  readonly id: number;
  readonly queue: string;
  readonly state: string;
  readonly payload: string;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly priority: number;
  readonly created_at: number;
  readonly due: number;
  readonly progress: string | null;
  readonly result: string | null;
  readonly last_error: string | null;
  /** Epoch milliseconds. */
  readonly started_at: number | null;
  readonly ended_at: number | null;
}

interface ErrorRow {
  readonly job_id: number;
  readonly attempt: number;
  readonly message: string;
  readonly stack: string | null;
  readonly at: number;
}

export interface Schemas {
  readonly schema: Schema | undefined;
  readonly resultSchema: Schema | undefined;
}

/** Reads jobs of a queue by their ids, wherever they are now, in the order of ids. Unknown ones are left out. */
export function readJobs<P, R>(
  connection: Connection,
  queue: string,
  ids: readonly number[],
  now: number,
  { schema, resultSchema }: Schemas,
): JobInfo<P, R>[] {
  const { byIds } = connection.use(prepareInfoStatements);
  const list = JSON.stringify(ids);
  const rows = byIds.all(queue, list, toUnixSeconds(now));
  const errors = readErrors(connection, ids);
  return rows.map((row) => ({
    id: row.id,
    queue: row.queue,
    state: stateOf(row, now),
    payload: readStored(row.payload, schema) as P,
    attempts: row.attempts,
    maxAttempts: row.max_attempts,
    priority: row.priority,
    enqueuedAt: new Date(row.created_at * 1_000),
    runAt: new Date(row.due),
    ...(row.started_at === null || row.ended_at === null
      ? {}
      : { startedAt: new Date(row.started_at), completedAt: new Date(row.ended_at) }),
    progress: row.progress === null ? null : readStored(row.progress, undefined),
    ...(row.result === null ? {} : { result: readStored(row.result, resultSchema) as R }),
    errors: withLastError(errors.get(row.id) ?? [], row),
  }));
}

/** The errors of jobs, in order, by job. */
export function readErrors(
  connection: Connection,
  ids: readonly number[],
): Map<number, readonly AttemptError[]> {
  const errors = new Map<number, AttemptError[]>();
  for (const { job_id, attempt, message, stack, at } of connection
    .use(prepareInfoStatements)
    .errors.all(JSON.stringify(ids))) {
    const list = errors.get(job_id) ?? [];
    list.push({ attempt, message, ...(stack === null ? {} : { stack }), at: new Date(at) });
    errors.set(job_id, list);
  }
  return errors;
}

/**
 * Adds what ended the job, where the errors of its attempts don't tell: honker keeps no others, and a job that expired or
 * was cancelled has not failed.
 */
export function withLastError(
  errors: readonly AttemptError[],
  job: Pick<InfoRow, "attempts" | "last_error" | "ended_at">,
): readonly AttemptError[] {
  const { attempts, last_error: message, ended_at } = job;
  if (message === null || ended_at === null) return errors;
  // That of an attempt is stored in the same moment; before it was tried anew, there may have been another of that number.
  const isTold =
    errors.some(({ attempt, at }) => attempt === attempts && Math.abs(at.getTime() - ended_at) < 2_000) &&
    message !== EXPIRED &&
    message !== CANCELLED;
  return isTold ? errors : [...errors, { attempt: attempts, message, at: new Date(ended_at) }];
}

/** What the last error of a job is told as that was cancelled. */
const CANCELLED = "cancelled";

function stateOf({ state, due }: InfoRow, now: number): JobState {
  if (state === "pending" || state === "joining") return due <= now ? "ready" : "delayed";
  if (state === "processing" || state === "completed" || state === "dead") return state;
  return "blocked";
}

interface InfoStatements {
  /** queue, ids as a JSON array, now in seconds. */
  readonly byIds: Statement<InfoRow, [string, string, number]>;
  /** ids as a JSON array. */
  readonly errors: Statement<ErrorRow, [string]>;
}

function prepareInfoStatements(connection: Connection): InfoStatements {
  const progress = "(SELECT value FROM _honkbun_progress WHERE job_id = id) AS progress";
  const wanted = "queue = ?1 AND id IN (SELECT value FROM json_each(?2))";
  return {
    byIds: connection.prepare(
      `SELECT id, queue, payload, priority, attempts, max_attempts, created_at, state, due, ${progress},
         NULL AS result, NULL AS last_error, NULL AS started_at, NULL AS ended_at
       FROM _honker_live WHERE ${wanted}
       UNION ALL
       SELECT ${COPIED}, 'dead', run_at * 1000, ${progress}, NULL, last_error, NULL, died_at * 1000
       FROM _honker_dead WHERE ${wanted}
       UNION ALL
       SELECT ${COPIED}, 'completed', due, ${progress},
         (SELECT value FROM _honker_results
          WHERE job_id = id AND (_honker_results.expires_at IS NULL OR _honker_results.expires_at > ?3)),
         NULL, started_at, completed_at
       FROM _honkbun_completed WHERE ${wanted}
       UNION ALL
       SELECT ${COPIED}, 'dead', due, ${progress}, NULL, '${CANCELLED}', NULL, cancelled_at
       FROM _honkbun_cancelled WHERE ${wanted}
       ORDER BY 1`,
    ),
    errors: connection.prepare(
      `SELECT job_id, attempt, message, stack, at FROM _honkbun_errors
       WHERE job_id IN (SELECT value FROM json_each(?1)) ORDER BY id`,
    ),
  };
}
