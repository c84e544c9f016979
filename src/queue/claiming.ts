import { toUnixSeconds } from "../clock.ts";
import { PayloadError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import { isLimited, readStanding, type Standing } from "./admission.ts";
import { buryDependents, type Failure, type OnSwept } from "./burial.ts";
import { Job, type JobContext } from "./job.ts";
import type { Claim } from "./lease.ts";
import { claimJobs, giveBackJob, sweepQueue } from "./operations.ts";
import { forgetEnded, prune } from "./retention.ts";
import type { LiveRow } from "./statements.ts";

/** A job that a claim has found to have failed, for the events that follow its commit. */
interface Failed {
  readonly event: Failure;
  readonly id: number;
  readonly queue: string;
  readonly attempt: number;
  readonly error: unknown;
}

export interface Claimed {
  readonly claim: Claim;
  /** In claim order; to be read once they are committed. */
  readonly rows: readonly LiveRow[];
  /** The queue lets no more be claimed than can be started at once. */
  readonly isLimited: boolean;
  /** To be called once what was claimed is committed. */
  readonly report: () => void;
}

export interface ClaimRequest {
  readonly count: number;
  /** How many of those can be started at once; the others are claimed ahead. */
  readonly startable: number;
  /** Unique to this claim. */
  readonly workerId: string;
  /** Milliseconds. */
  readonly visibilityTimeout: number;
  /** Frees whatever stands in front of jobs that can run; a loop leaves what takes long to its next turn. */
  readonly isPatient: boolean;
}

/** A job that was claimed; with an error when its handler could not be given what is stored. */
export interface Read<J extends Job<unknown>> {
  readonly job: J;
  readonly unreadable?: unknown;
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

  /** On a connection that is inside a transaction. Runs nothing of the application's, and so can be on any. */
  claim(connection: Connection, request: ClaimRequest): Claimed {
    const { workerId, visibilityTimeout, isPatient } = request;
    const now = this.#context.clock();
    let standing = readStanding(connection, this.#queue, now);
    const { keepCompleted } = standing;
    const claim: Claim = { workerId, visibilityTimeout, now, isRetained: keepCompleted != null };
    const count = isLimited(standing) ? Math.min(request.count, request.startable) : request.count;
    const failed: Failed[] = [];
    const rows: LiveRow[] = [];
    const report = (): void => {
      for (const { event, ...job } of failed) this.#context.emit(event, job);
    };
    const isSwept = toUnixSeconds(now) === this.#sweptAt;
    if (!isSwept) forgetEnded(connection, now);
    // What has expired since the last sweep is found when jobs run short.
    for (let isDone = !isSwept && this.#sweep(connection, standing, now, failed); ;) {
      rows.push(...claimJobs(connection, this.#queue, standing, count - rows.length, claim));
      if (rows.length === count || isDone) break;
      const found = failed.length;
      isDone = this.#sweep(connection, standing, now, failed);
      if ((isDone && failed.length === found) || (!isDone && !isPatient)) break;
      standing = readStanding(connection, this.#queue, now);
    }
    return { claim, rows, isLimited: isLimited(standing), report };
  }

  /** Reads what was claimed, by the application's schema. */
  read(row: LiveRow, claim: Claim): Read<J> {
    try {
      assertWhole(row, this.#queue);
      return { job: this.#read(row, claim) };
    } catch (unreadable) {
      return { job: new Job(row, this.#queue, undefined, claim, this.#context) as unknown as J, unreadable };
    }
  }

  /** Whether there is nothing more to free. */
  #sweep(connection: Connection, standing: Standing, now: number, failed: Failed[]): boolean {
    const onSwept: OnSwept = (event, { id, queue, attempts }, error) => {
      failed.push({ event, id, queue, attempt: attempts, error });
    };
    const isDone = [
      sweepQueue(connection, this.#queue, now, onSwept),
      !standing.hasFailed || buryDependents(connection, now, onSwept),
      prune(connection, this.#queue, standing, now),
    ].every(Boolean);
    if (isDone) this.#sweptAt = toUnixSeconds(now);
    return isDone;
  }
}

/** Makes jobs that nobody has begun claimable again, without using an attempt. */
export function giveBackClaimed(connection: Connection, { claim, rows }: Claimed): void {
  for (const { id } of rows) giveBackJob(connection, id, claim.workerId);
}

/**
 * What cannot be read is not left to others: nobody can run it as it is. Where the schema itself fails, or turns
 * asynchronous, the payload may be well, and that is a failed attempt. Null when the claim is lost.
 */
export function settleUnreadable(
  connection: Connection,
  job: Job<unknown>,
  unreadable: unknown,
): Failure | null {
  return unreadable instanceof PayloadError
    ? job.failOn(connection, unreadable)
    : job.retryOn(connection, unreadable);
}

/** What somebody has written by hand may be of any type. */
function assertWhole({ id, payload, max_attempts }: LiveRow, queue: string): void {
  if (typeof payload !== "string") {
    throw new PayloadError(`job ${id} of ${queue}: the stored payload is not JSON: it is a BLOB`);
  }
  if (typeof max_attempts !== "number") {
    throw new PayloadError(`job ${id} of ${queue}: its max_attempts is no number`);
  }
}
