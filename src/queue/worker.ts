import type { Clock } from "../clock.ts";
import { type Duration, LONGEST_TIMER, toMilliseconds } from "../duration.ts";
import { ClaimLostError, ClosedError, FileReplacedError, WorkerStoppedError } from "../errors.ts";
import { assertKnown } from "../options.ts";
import { onAbort } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { offTermination, onTermination } from "../termination.ts";
import type { Alarms } from "../wake/alarms.ts";
import type { ClaimLoop, ClaimLoops } from "./claim-loops.ts";
import { giveBackClaimed } from "./claiming.ts";
import type { Lane } from "./lane.ts";
import { type ClaimedLane, Lanes } from "./lanes.ts";
import { type Outcome, Run, type RunHost, settleRuns, type Written } from "./run.ts";
import type { Worker, WorkTerms } from "./work-options.ts";

/** Jobs that one transaction claims at most: some milliseconds of work. */
const CLAIMED_AT_ONCE = 500;
/** Milliseconds for which handlers are started one after the other before the event loop has its turn. */
const START_SLICE = 2;
/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

const STOP = new Set(["timeout"]);

/** What a worker needs of its honkbun handle. */
export interface WorkerHost {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly loops: ClaimLoops;
  report(error: unknown, where: string): void;
}

/**
 * Runs jobs of one or more queues, so many at once. Each round is one transaction, shared with whatever else is written in
 * the same tick: the outcomes of the handlers that have ended, and claims for the slots that are free then.
 */
export class QueueWorker implements Worker, ClaimLoop, RunHost {
  readonly #host: WorkerHost;
  readonly #terms: WorkTerms;
  readonly #lanes: Lanes;
  /** Each occupies a slot until its outcome is committed. */
  readonly #runs = new Set<Run>();
  /** Claimed, to be started in order. */
  #toStart: Run[] = [];
  /** Ended, to be written. */
  #ended: Run[] = [];
  #running = 0;
  #isWriting = false;
  #isStopping = false;
  #isOver = false;
  #starting: NodeJS.Immediate | undefined;
  #pause: Timer | undefined;
  #last: Map<Run, Written> | undefined;
  /** Settled and claimed by a transaction that may not be known to have ended. */
  #inFlight: { readonly settling: readonly Run[]; readonly claimed: readonly ClaimedLane[] } | undefined;
  readonly #stopped = Promise.withResolvers<void>();
  #offAbort: () => void = () => {};
  readonly #termination = { stop: () => void this.stop(), kill: () => this.#kill() };

  /** @throws FileReplacedError, ClosedError */
  constructor(host: WorkerHost, lanes: readonly Lane[], terms: WorkTerms) {
    this.#host = host;
    this.#terms = terms;
    this.#lanes = new Lanes(host.loops.feed, () => this.#pump());
    this.#stopped.promise.catch(() => {}); // whoever waits for it is told; `error` tells the others
    if (terms.signal?.aborted) {
      this.#isStopping = true;
      this.#finish();
      return;
    }
    host.loops.add(this);
    if (terms.signals) onTermination(this.#termination);
    this.#offAbort = onAbort(terms.signal, () => void this.stop());
    for (const lane of lanes) this.addLane(lane);
  }

  get clock(): Clock {
    return this.#host.clock;
  }

  get alarms(): Alarms {
    return this.#host.loops.alarms;
  }

  get running(): number {
    return this.#running;
  }

  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  addLane(lane: Lane): void {
    this.#lanes.add(lane);
    this.#pump();
  }

  stop(options?: { readonly timeout?: Duration | undefined }): Promise<void> {
    assertKnown("stop", options, STOP);
    const timeout =
      options?.timeout === undefined ? undefined : toMilliseconds(options.timeout, "stop: timeout");
    this.#stopClaiming();
    if (timeout !== undefined && !this.#isOver) {
      const timer = setTimeout(() => this.#giveUp(), Math.min(timeout, LONGEST_TIMER));
      const clear = (): void => clearTimeout(timer);
      this.stopped.then(clear, clear);
    }
    return this.stopped;
  }

  async drain(deadline: Promise<void>): Promise<void> {
    void deadline.then(() => this.#giveUp());
    await this.stop().catch(() => {}); // that it failed was reported
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  end(): void {
    this.#stopClaiming();
    this.#isOver = true;
    clearTimeout(this.#pause);
    clearImmediate(this.#starting);
    for (const run of this.#runs) this.alarms.clear(run);
  }

  leave(connection: Connection): void {
    // What is written already is as it is: these find their claims gone.
    this.#last = settleRuns(connection, [...(this.#inFlight?.settling ?? []), ...this.#ended]);
    for (const { claimed } of this.#inFlight?.claimed ?? []) giveBackClaimed(connection, claimed);
    for (const { job, outcome } of this.#runs) {
      if (outcome === undefined && job.lease.mayBeHeld) job.giveBackOn(connection);
    }
  }

  left(reason: Error): void {
    for (const [run, written] of this.#last ?? []) this.#written(run, written);
    for (const { job } of this.#runs) job.lease.lose(reason);
    this.#runs.clear();
    this.#finish();
  }

  fail(error: Error): void {
    if (this.#isOver) return;
    this.end();
    for (const { job } of this.#runs) job.lease.lose(error);
    this.#runs.clear();
    this.#finish(error);
  }

  ended(run: Run): void {
    const { lease } = run.job;
    this.#running--;
    if (this.#isOver) return;
    if (lease.isLost) {
      if (run.outcome !== undefined) this.late(run, run.outcome);
      this.#free(run);
    } else if (!run.job.settled) {
      this.#ended.push(run);
      this.#pump();
    } else if (!lease.isUndecided) this.#free(run);
  }

  released(run: Run): void {
    this.#host.loops.keeper.drop(run.job);
    if (run.outcome !== undefined) this.#free(run);
  }

  late({ job }: Run, outcome: Outcome): void {
    if (this.#isOver || outcome.kind === "given back" || outcome.kind === "unreadable") return;
    // A handler that was told to stop, and did, is as it should be.
    if (outcome.kind === "failed" && job.lease.reason !== undefined) return;
    const [what, cause] =
      outcome.kind === "failed" ? ["failed", { cause: outcome.error }] : ["finished", undefined];
    this.#host.report(
      new ClaimLostError(
        `job ${job.id} of ${job.queue} ${what} in this worker when its claim was no longer held: ` +
          (job.lease.reason?.message ?? "it was taken over, cancelled or buried"),
        cause,
      ),
      `worker of ${job.queue}`,
    );
  }

  /** Begins a round, unless one is under way, at whose end this is called again. */
  #pump(): void {
    if (this.#isWriting || this.#isOver || this.#pause !== undefined) return;
    if (this.#ended.length === 0 && !this.#mayClaim()) return;
    this.#isWriting = true;
    void this.#round();
  }

  /** Once `freed` of the slots will be free that are not yet. */
  #mayClaim(freed = 0): boolean {
    if (this.#isStopping || this.#runs.size - freed >= this.#terms.concurrency) return false;
    return this.#lanes.isOpen;
  }

  async #round(): Promise<void> {
    const { pool } = this.#host;
    let settling: Run[] = [];
    let freed = 0;
    const [settled, claimed] = await Promise.allSettled([
      pool.loops.write((connection) => {
        settling = [...settling, ...this.#ended.splice(0)]; // all that have ended by now
        const written = settleRuns(connection, settling);
        freed = settling.length;
        return written;
      }),
      pool.loops.write((connection) => {
        const lanes = this.#claimOn(connection, freed);
        this.#inFlight = { settling, claimed: lanes };
        return lanes;
      }),
    ]);
    if (this.#isOver) return;
    const failures: unknown[] = [];
    if (settled.status === "fulfilled") {
      for (const [run, written] of settled.value) this.#written(run, written);
    } else {
      this.#ended.unshift(...settling);
      failures.push(settled.reason);
    }
    if (this.#isOver) return; // by a listener
    if (claimed.status === "fulfilled") this.#claimed(claimed.value, failures);
    else failures.push(claimed.reason);
    this.#inFlight = undefined;
    for (const failure of new Set(failures)) this.#failed(failure);
    this.#isWriting = false; // not before, or what is freed above would begin a round of its own
    if (this.#isStopping) this.#finishIfIdle();
    this.#pump();
  }

  #claimOn(connection: Connection, freed: number): ClaimedLane[] {
    if (!this.#mayClaim(freed)) return [];
    const free = this.#terms.concurrency - this.#runs.size + freed;
    return this.#lanes.claim(connection, Math.min(free, CLAIMED_AT_ONCE));
  }

  #claimed(all: readonly ClaimedLane[], failures: unknown[]): void {
    const { keeper } = this.#host.loops;
    for (const { open, claimed, isExhausted } of all) {
      for (const row of claimed.rows) {
        const read = open.lane.read(row, claimed.claim);
        const run = new Run(read.job, open.lane, this);
        this.#runs.add(run);
        keeper.hold(read.job);
        if (!("unreadable" in read)) this.#toStart.push(run);
        else {
          this.#running++; // as `ended` counts
          run.unreadable(read.unreadable);
        }
      }
      if (!isExhausted || this.#isStopping) continue;
      try {
        this.#lanes.wait(open);
      } catch (error) {
        failures.push(error);
      }
    }
    this.#inFlight = undefined; // each has its run now
    for (const { claimed } of all) claimed.report();
    if (this.#isOver) return; // by a listener
    if (this.#isStopping) this.#giveBackUnstarted();
    else this.#start();
  }

  /** Starts what was claimed. Handlers that do all their work at once must not keep the event loop from its turn. */
  readonly #start = (): void => {
    const end = performance.now() + START_SLICE;
    clearImmediate(this.#starting);
    for (let run = this.#toStart.shift(); run !== undefined; run = this.#toStart.shift()) {
      this.#running++;
      run.start(); // which may stop us, and leave nothing to start
      if (this.#toStart.length > 0 && performance.now() >= end) {
        this.#starting = setImmediate(this.#start);
        return;
      }
    }
  };

  #giveBackUnstarted(): void {
    for (const run of this.#toStart.splice(0)) {
      this.#running++; // as `ended` counts
      run.giveBack();
    }
  }

  #written(run: Run, written: Written): void {
    const { job, outcome } = run;
    if (written === null) {
      if (!job.settled && outcome !== undefined) {
        this.late(run, outcome);
        job.lease.lose(job.lease.lostError("work"));
      }
      this.#free(run);
      return;
    }
    const error = outcome !== undefined && "error" in outcome ? outcome.error : undefined;
    job.settledByLoop(written === "given back" ? undefined : written, error);
  }

  #free(run: Run): void {
    if (!this.#runs.delete(run)) return;
    if (this.#isStopping) this.#finishIfIdle();
    else this.#pump();
  }

  #stopClaiming(): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#offAbort();
    this.#lanes.close();
    clearImmediate(this.#starting);
    this.#giveBackUnstarted();
    this.#finishIfIdle();
  }

  /** The time to stop in order is over. */
  #giveUp(): void {
    if (this.#isOver) return;
    for (const run of this.#runs) {
      const { id, queue } = run.job;
      if (run.outcome === undefined) {
        run.giveUp(
          new WorkerStoppedError(`the worker of job ${id} of ${queue} was stopped, and its time is over`),
        );
      }
    }
  }

  #finishIfIdle(): void {
    if (this.#runs.size === 0 && !this.#isWriting) this.#finish();
  }

  #finish(error?: Error): void {
    this.#isOver = true;
    clearTimeout(this.#pause);
    this.#host.loops.delete(this);
    offTermination(this.#termination);
    if (error === undefined) this.#stopped.resolve();
    else this.#stopped.reject(error);
  }

  #failed(error: unknown): void {
    if (this.#isOver) return;
    if (error instanceof FileReplacedError || error instanceof ClosedError) {
      this.fail(error);
      return;
    }
    this.#host.report(error, `worker of ${this.#lanes.names}`);
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined;
      this.#pump();
    }, PAUSE_AFTER_ERROR);
  }

  #kill(): void {
    const { loops, pool, report } = this.#host;
    loops.endNow([this], pool, new WorkerStoppedError("the process was told to end at once"), report);
  }
}
