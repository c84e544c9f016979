import type { Clock } from "../clock.ts";
import { JobTimeoutError, UnrecoverableError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import { isThenable } from "../thenable.ts";
import type { Alarms } from "../wake/alarms.ts";
import type { Failure } from "./burial.ts";
import { settleUnreadable } from "./claiming.ts";
import { type Ack, Job } from "./job.ts";
import { type Lane, NotBegunError } from "./lane.ts";
import type { LeaseListener } from "./lease.ts";
import { type Completion, forgetHistory } from "./operations.ts";

/** Milliseconds that a handler has, after its timeout, to end by itself. */
const GRACE = 1_000;

/** How a run has ended, as far as the worker is concerned. */
export type Outcome =
  | { readonly kind: "completed"; readonly completion: Completion | undefined }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "unreadable"; readonly error: unknown }
  | { readonly kind: "given back" };

const GIVEN_BACK: Outcome = { kind: "given back" };

/** What a run needs of its worker. */
export interface RunHost {
  readonly clock: Clock;
  readonly alarms: Alarms;
  /** It has let go of all its jobs. */
  readonly isOver: boolean;
  /** Calls the handler that the lane has for the job, and returns what it does. */
  call(job: Job<unknown>, lane: Lane): unknown;
  /** The handler has ended, or is no longer waited for. */
  handlerEnded(run: Run): void;
  /** Nothing of the lane can be run now. */
  unavailable(lane: Lane, error: unknown): void;
  /** What became of the job is to be written. */
  ended(run: Run): void;
  /** The claim is settled, or lost. */
  released(run: Run): void;
  /** The handler has ended when that could no longer be recorded. */
  late(run: Run, outcome: Outcome): void;
}

/** One job in the hands of a worker: from its claim until what became of it is committed. */
export class Run implements LeaseListener {
  readonly job: Job<unknown>;
  readonly #lane: Lane;
  readonly #host: RunHost;
  #hasSlot = false;
  /** When the handler was called and ended, by `performance.now()`. */
  #calledAt: number | undefined;
  #endedAt = 0;
  /** The worker has no more time: what fails now is given back. */
  #isGivenUp = false;
  #outcome: Outcome | undefined;
  /** Then it does not matter how the handler ends. */
  #isSettledByHandler = false;

  constructor(job: Job<unknown>, lane: Lane, host: RunHost) {
    this.job = job;
    this.#lane = lane;
    this.#host = host;
    job.lease.watchedBy(this);
  }

  /** How long the handler took, in milliseconds, if it was called. */
  get duration(): number | undefined {
    return this.#calledAt === undefined ? undefined : this.#endedAt - this.#calledAt;
  }

  get outcome(): Outcome | undefined {
    return this.#outcome;
  }

  /** It has a slot now: calls the handler, as soon as the lane is ready to. */
  start(): void {
    this.#hasSlot = true;
    const ready = this.#lane.prepare?.(this.job);
    if (ready === undefined) this.#call();
    else {
      ready.then(
        () => {
          if (this.job.lease.isLost) this.giveBack();
          else if (this.#outcome === undefined) this.#call();
        },
        (error) => {
          if (this.#outcome !== undefined) return;
          this.#host.unavailable(this.#lane, error);
          this.giveBack();
        },
      );
    }
  }

  #call(): void {
    const { job } = this;
    this.#calledAt = performance.now();
    let result: unknown;
    let isPromise: boolean;
    try {
      const timeout = this.#lane.timeout(job);
      if (timeout !== undefined) this.#host.alarms.set(this, timeout, () => this.#timedOut(timeout));
      result = this.#host.call(job, this.#lane);
      isPromise = isThenable(result);
    } catch (error) {
      this.#threw(error);
      return;
    }
    if (!isPromise) this.#returned(result);
    else {
      Promise.resolve(result).then(
        (value) => this.#returned(value),
        (error) => this.#threw(error),
      );
    }
  }

  /** Its handler cannot be given what is stored. */
  unreadable(error: unknown): void {
    this.#end({ kind: "unreadable", error });
  }

  /** Tells the handler to stop. One that does not within this turn of the event loop is no longer waited for. */
  giveUp(reason: Error): void {
    this.#isGivenUp = true;
    this.job.lease.abort(reason);
    setImmediate(() => this.giveBack());
  }

  /** Makes the job claimable again without using the attempt, unless it has ended already. */
  giveBack(): void {
    this.#abandon(GIVEN_BACK);
  }

  #returned(value: unknown): void {
    const { job } = this;
    try {
      const completion = job.settled ? undefined : job.completion(value, this.#host.clock());
      this.#end({ kind: "completed", completion });
    } catch (error) {
      this.#end({ kind: "failed", error }); // a result that cannot be stored, as if the handler had called ack with it
    }
  }

  #threw(thrown: unknown): void {
    const error = presentable(thrown);
    if (error instanceof NotBegunError && this.#outcome === undefined) {
      this.#host.alarms.clear(this);
      this.#calledAt = undefined;
      this.start();
      return;
    }
    if (this.#isGivenUp && !(error instanceof UnrecoverableError)) this.#end(GIVEN_BACK);
    else {
      const { reason } = this.job.lease;
      // What was aborted often says no more than that.
      const isAbort = reason !== undefined && error instanceof Error && error.name === "AbortError";
      this.#end({ kind: "failed", error: isAbort ? reason : error });
    }
  }

  #timedOut(timeout: number): void {
    const { id, queue } = this.job;
    const error = new JobTimeoutError(`job ${id} of ${queue} has been running for ${timeout} ms (timeout)`);
    this.job.lease.abort(error);
    this.#host.alarms.set(this, GRACE, () => this.#abandon({ kind: "failed", error }));
  }

  /** The handler is not waited for any longer. */
  #abandon(outcome: Outcome): void {
    if (this.#outcome !== undefined) return;
    this.#end(outcome);
    if (this.#hasSlot) this.#lane.abandon?.(this.job);
  }

  released(): void {
    const { lease } = this.job;
    const { isOver, alarms } = this.#host;
    if (lease.isLost && !isOver && this.#calledAt !== undefined && this.#lane.abandon !== undefined) {
      alarms.set(this, GRACE, () => this.giveBack());
    }
    this.#host.released(this);
  }

  reverted(): void {
    if (this.#outcome === undefined) return; // the handler has yet to end
    if (this.#outcome.kind === "completed") {
      const error = new Error("the transaction on which the handler settled the job was rolled back");
      this.#outcome = { kind: "failed", error };
    }
    this.#host.ended(this);
  }

  #end(outcome: Outcome): void {
    const before = this.#outcome;
    if (before !== undefined) {
      // What finishes while it waits to be given back need not be done again.
      if (before.kind === "given back" && outcome.kind === "completed") this.#outcome = outcome;
      else if (!this.#isSettledByHandler) this.#host.late(this, outcome);
      return;
    }
    this.#outcome = outcome;
    this.#isSettledByHandler = this.job.settled;
    this.#endedAt = performance.now();
    this.#host.alarms.clear(this);
    if (this.#hasSlot) this.#host.handlerEnded(this);
    this.#host.ended(this);
  }
}

/** What was thrown, or where it cannot even be looked at (a proxy that was revoked), something that says so. */
function presentable(thrown: unknown): unknown {
  try {
    if (thrown instanceof Error) void thrown.name;
    return thrown;
  } catch (cause) {
    return new Error("the handler threw something without a message", { cause });
  }
}

/** What was written of a run: the event to be told; null when the claim no longer held the job. */
export type Written = Failure | "job:completed" | "given back" | null;

export interface Settled {
  readonly run: Run;
  readonly written: Written;
}

/** Writes outcomes of runs, on a connection that is inside a transaction. */
export function settleRuns(connection: Connection, runs: readonly Run[]): Settled[] {
  const settled: Settled[] = [];
  const completed: Run[] = [];
  const acks: Ack[] = [];
  for (const run of runs) {
    const { job, outcome } = run;
    if (job.settled || job.lease.isLost) settled.push({ run, written: null });
    else if (outcome?.kind === "completed" && outcome.completion !== undefined) {
      completed.push(run);
      acks.push({ job, completion: outcome.completion });
    } else settled.push({ run, written: settleOne(connection, job, outcome) });
  }
  if (acks.length === 0) return settled;
  const { jobs, withHistory } = Job.ackOn(connection, acks);
  if (withHistory.length > 0) forgetHistory(connection, withHistory);
  const acked = jobs.length === acks.length ? undefined : new Set(jobs);
  for (const run of completed) {
    settled.push({ run, written: acked?.has(run.job) === false ? null : "job:completed" });
  }
  return settled;
}

function settleOne(connection: Connection, job: Job<unknown>, outcome: Outcome | undefined): Written {
  if (outcome?.kind === "failed") {
    const { error } = outcome;
    return error instanceof UnrecoverableError
      ? job.failOn(connection, error)
      : job.retryOn(connection, error);
  }
  if (outcome?.kind === "unreadable") return settleUnreadable(connection, job, outcome.error);
  return job.giveBackOn(connection) ? "given back" : null;
}
