import type { Clock } from "../clock.ts";
import { toUnixSeconds } from "../clock.ts";
import {
  type AttemptError,
  ClosedError,
  JobCancelledError,
  JobExpiredError,
  JobFailedError,
  ResultNotKeptError,
  WaitTimeoutError,
} from "../errors.ts";
import { deserialize, type Schema } from "../payload.ts";
import { onAbort } from "../signal.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Alarms } from "../wake/alarms.ts";
import { readErrors, withLastError } from "./job-info.ts";
import { EXPIRED } from "./operations.ts";

/** What waiting for a result needs of its queue. */
export interface ResultHost<R> {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly alarms: Alarms;
  readonly queue: string;
  readonly resultSchema: Schema<unknown, R> | undefined;
  /** Whether a job's result is kept though the job itself does not say so. */
  readonly mayBeKept: boolean;
  watch(id: number): AsyncIterable<unknown> & { end(): void };
  /** Buries what was to run after jobs that have failed. */
  bury(connection: Connection, now: number): void;
}

/**
 * Resolves with the result of a job once it has one, at once when it has one already.
 * @throws JobFailedError, JobCancelledError, JobExpiredError, ResultNotKeptError, WaitTimeoutError, RangeError, the signal's reason
 */
export async function waitResult<R>(
  host: ResultHost<R>,
  id: number,
  { signal, timeout }: { readonly signal: AbortSignal | undefined; readonly timeout: number | undefined },
): Promise<R> {
  signal?.throwIfAborted();
  const { pool, alarms, queue, clock } = host;
  const start = clock();
  // A job that was enqueued in the open transaction is known after it.
  await new Promise<void>((resolve) => pool.onEnd({ committed: resolve, rolledBack: resolve }));
  for (;;) {
    await buryIfFailed(host, id);
    const found = read(host, id);
    if ("result" in found) return found.result;
    let failure: { readonly reason: unknown } | undefined;
    const watch = host.watch(id);
    const offAbort = onAbort(signal, () => {
      failure = { reason: signal?.reason };
      watch.end();
    });
    if (found.expiresAt !== null) {
      alarms.set(found, found.expiresAt * 1_000 - clock(), () => watch.end()); // and look again
    }
    if (timeout !== undefined) {
      alarms.set(watch, timeout - (clock() - start), () => {
        failure = {
          reason: new WaitTimeoutError(`job ${id} of ${queue} had no result within ${timeout} ms (timeout)`),
        };
        watch.end();
      });
    }
    try {
      for await (const _ of watch); // until it has ended
    } finally {
      offAbort();
      alarms.clear(watch);
      alarms.clear(found);
    }
    if (failure !== undefined) throw failure.reason;
    if (pool.isClosed) throw new ClosedError("this honkbun handle was closed");
  }
}

/** honker buries a job without burying what was to run after it, and perhaps nobody else is there to do that. */
async function buryIfFailed<R>({ pool, clock, bury }: ResultHost<R>, id: number): Promise<void> {
  const hasFailed = pool.readCommitted((connection) =>
    connection.use(prepareResultStatements).hasFailed.get(id),
  );
  if (hasFailed !== null) await pool.loops.write((connection) => bury(connection, clock()));
}

/** What there is of a result; when there is none yet, when the job will expire, in seconds. */
function read<R>(
  host: ResultHost<R>,
  id: number,
): { readonly result: R } | { readonly expiresAt: number | null } {
  const { pool, clock, queue, resultSchema, mayBeKept } = host;
  const job = `job ${id} of ${queue}`;
  return pool.readCommitted((connection) => {
    const row = connection
      .use(prepareResultStatements)
      .ending.get(queue, id, toUnixSeconds(clock())) as EndingRow;
    if (row.is_live === 1) {
      // Nobody can claim it any more, though it may be long until somebody buries it.
      if (row.state !== "processing" && row.expires_at !== null && row.expires_at <= toUnixSeconds(clock())) {
        throw new JobExpiredError(`${job} was not claimed before it expired`);
      }
      if (row.keep_result === null && row.is_retained === 0 && !mayBeKept) {
        throw new ResultNotKeptError(`${job}: its result is not kept; give its queue a keepResult`);
      }
      return { expiresAt: row.state === "processing" ? null : row.expires_at };
    }
    if (row.has_result === 1) {
      if (row.result === null) return { result: undefined as R };
      return { result: deserialize(row.result, resultSchema, () => `result of ${job}`) as R };
    }
    if (row.is_cancelled === 1) throw new JobCancelledError(`${job} was cancelled`);
    if (row.died_at !== null) throw failureOf(connection, job, id, row as EndingRow & { died_at: number });
    if (id > row.last_id) throw new RangeError(`there has never been a ${job}`);
    throw new ResultNotKeptError(`${job} has ended, and its result was not kept, or is no longer`);
  });
}

function failureOf(
  connection: Connection,
  job: string,
  id: number,
  { attempts, last_error, died_at }: EndingRow & { readonly died_at: number },
): Error {
  const own: readonly AttemptError[] = readErrors(connection, [id]).get(id) ?? [];
  const hasFailedSo = own.some((error) => error.attempt === attempts && error.message === EXPIRED);
  if (last_error === EXPIRED && !hasFailedSo) {
    return new JobExpiredError(`${job} was not claimed before it expired`);
  }
  const errors = withLastError(own, { attempts, last_error, ended_at: died_at * 1_000 });
  return new JobFailedError(`${job} has failed: ${errors.at(-1)?.message ?? "no error was given"}`, errors);
}

interface EndingRow {
  readonly is_live: number;
  readonly state: string | null;
  readonly expires_at: number | null;
  readonly keep_result: number | null;
  /** Whether the queue keeps completed jobs. */
  readonly is_retained: number;
  readonly has_result: number;
  readonly result: string | null;
  readonly is_cancelled: number;
  readonly attempts: number;
  readonly last_error: string | null;
  /** In seconds; null for a job that is not in the dead letters. */
  readonly died_at: number | null;
  /** The last id that was given to a job. */
  readonly last_id: number;
}

interface ResultStatements {
  /** Whether a job was to run after another that has failed. */
  readonly hasFailed: Statement<{ n: number }, [number]>;
  /** queue, id, now in seconds. */
  readonly ending: Statement<EndingRow, [string, number, number]>;
}

function prepareResultStatements(connection: Connection): ResultStatements {
  return {
    hasFailed: connection.prepare(
      "SELECT 1 AS n FROM _honkbun_dependencies WHERE child = ?1 AND outcome = 2 LIMIT 1",
    ),
    ending: connection.prepare(
      `SELECT live.id IS NOT NULL AS is_live, live.state AS state, live.expires_at AS expires_at,
         live.keep_result AS keep_result,
         EXISTS (SELECT 1 FROM _honkbun_queues WHERE name = ?1 AND keep_completed = 1) AS is_retained,
         result.job_id IS NOT NULL AS has_result, result.value AS result,
         cancelled.id IS NOT NULL AS is_cancelled,
         dead.attempts AS attempts, dead.last_error AS last_error, dead.died_at AS died_at,
         coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_honker_live'), 0) AS last_id
       FROM (SELECT ?2 AS id) AS wanted
       LEFT JOIN _honker_live AS live ON live.id = wanted.id AND live.queue = ?1
       LEFT JOIN _honker_results AS result
         ON result.job_id = wanted.id AND (result.expires_at IS NULL OR result.expires_at > ?3)
           AND NOT EXISTS (SELECT 1 FROM _honkbun_completed WHERE id = wanted.id AND queue <> ?1)
       LEFT JOIN _honkbun_cancelled AS cancelled ON cancelled.id = wanted.id AND cancelled.queue = ?1
       LEFT JOIN _honker_dead AS dead ON dead.id = wanted.id AND dead.queue = ?1`,
    ),
  };
}
