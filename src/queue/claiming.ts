import { toUnixSeconds } from "../clock.ts";
import { PayloadError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import { forgetEnded } from "./changes.ts";
import type { Job, JobContext } from "./job.ts";
import type { Claim } from "./lease.ts";
import { claimJobs, failJob, type Failure, retryJob, sweepQueue } from "./operations.ts";
import type { LiveRow } from "./statements.ts";

/** A job that a claim has found to have failed, for the events that follow its commit. */
interface Failed {
  readonly event: Failure;
  readonly id: number;
  readonly attempt: number;
  readonly error: unknown;
}

export interface Claimed<J extends Job<unknown> = Job<unknown>> {
  readonly jobs: J[];
  /** To be called once what was claimed is committed. */
  readonly report: () => void;
}

export interface ClaimRequest {
  readonly count: number;
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  /** Unreadable jobs that are buried at most; a loop leaves the rest to its next turn. */
  readonly maxBuried: number;
}

/**
 * Makes the job of a row that was claimed.
 * @throws PayloadError when nobody can run it as it is
 */
export type ReadJob<J> = (row: LiveRow, claim: Claim) => J;

/** Claims jobs of one queue, and frees on the way what nobody else would. */
export class Claiming<J extends Job<unknown>> {
  readonly #queue: string;
  readonly #read: ReadJob<J>;
  readonly #context: JobContext;
  /** The second in which this handle last found nothing more to free. Expiries are whole seconds. */
  #sweptAt = -1;

  constructor(queue: string, context: JobContext, read: ReadJob<J>) {
    this.#queue = queue;
    this.#context = context;
    this.#read = read;
  }

  /** Jobs in claim order, on a connection that is inside a transaction. */
  claim(connection: Connection, request: ClaimRequest): Claimed<J> {
    const now = this.#context.clock();
    const failed: Failed[] = [];
    // Expiries are whole seconds: looking once in each finds all. What is found meanwhile is found when there is no more.
    const isSwept = toUnixSeconds(now) === this.#sweptAt;
    if (!isSwept) this.#sweep(connection, now, failed);
    let jobs = this.#claimReadable(connection, request, now, failed);
    if (jobs.length === 0 && isSwept) {
      this.#sweep(connection, now, failed);
      jobs = this.#claimReadable(connection, request, now, failed);
    }
    const report = (): void => {
      for (const { event, ...job } of failed) this.#context.emit(event, { queue: this.#queue, ...job });
    };
    return { jobs, report };
  }

  /** Claims until there are `count` jobs whose payloads can be read; the others are buried. */
  #claimReadable(connection: Connection, request: ClaimRequest, now: number, failed: Failed[]): J[] {
    const { count, workerId, visibilityTimeout, maxBuried } = request;
    const claim: Claim = { workerId, visibilityTimeout, now };
    const jobs: J[] = [];
    for (let buried = 0; ;) {
      const rows = claimJobs(connection, this.#queue, count - jobs.length, claim);
      for (const row of rows) {
        try {
          jobs.push(this.#read(row, claim));
        } catch (error) {
          const { id, attempts } = row;
          // Nobody can run it as it is; the others go on. Where the schema itself fails, or turns asynchronous, the
          // payload may be well: that is a failed attempt.
          const event =
            error instanceof PayloadError
              ? failJob(connection, id, workerId, { error, now })
              : retryJob(connection, id, workerId, {
                  due: Math.ceil(now + this.#context.loopBackoff(attempts)),
                  error,
                  now,
                });
          if (event !== null) failed.push({ event, id, attempt: attempts, error });
          buried++;
        }
      }
      if (jobs.length === count || rows.length === 0 || buried >= maxBuried) return jobs;
    }
  }

  #sweep(connection: Connection, now: number, failed: Failed[]): void {
    const isDone = sweepQueue(connection, this.#queue, now, (event, { id, attempts }, error) => {
      failed.push({ event, id, attempt: attempts, error });
    });
    forgetEnded(connection, now);
    if (isDone) this.#sweptAt = toUnixSeconds(now);
  }
}
