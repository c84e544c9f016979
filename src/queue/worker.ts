import type { Clock } from "../clock.ts";
import { type Duration, LONGEST_TIMER, toMilliseconds } from "../duration.ts";
import { ClaimLostError, ClosedError, FileReplacedError, WorkerStoppedError } from "../errors.ts";
import { assertKnown } from "../options.ts";
import type { Seams } from "../seams.ts";
import { onAbort } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { inSavepoint, isInTransaction } from "../sqlite/transaction.ts";
import { offTermination, onTermination } from "../termination.ts";
import type { Alarms } from "../wake/alarms.ts";
import type { ClaimLoop, ClaimLoops } from "./claim-loops.ts";
import { giveBackClaimed } from "./claiming.ts";
import type { Job } from "./job.ts";
import type { Lane } from "./lane.ts";
import { type ClaimedLane, Lanes } from "./lanes.ts";
import { type Outcome, Run, type RunHost, type Settled, settleRuns } from "./run.ts";
import { Slots } from "./slots.ts";
import type { Worker, WorkTerms } from "./work-options.ts";

/** Jobs that one transaction claims at most: some milliseconds of work. */
const CLAIMED_AT_ONCE = 500;
/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;
/** Milliseconds for which the outcome of one job is tried to be written when only that fails; then its claim is left to expire. */
const UNWRITABLE_FOR = 60_000;
/** After the time to stop is over, what is left is written in so many milliseconds, or the worker has stopped all the same. */
const LAST_WRITES = 250;

const STOP = new Set(["timeout"]);

/** What a worker needs of its honkbun handle. */
export interface WorkerHost {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly alarms: Alarms;
  readonly loops: ClaimLoops;
  readonly seams: Seams;
  report(error: unknown, where: string): void;
}

/** A claim on a job. */
export interface HeldClaim {
  readonly id: number;
  readonly workerId: string;
}

/** Written by a transaction that may not be known to have ended. */
interface InFlight {
  readonly settled: readonly Settled[];
  readonly claimed: readonly ClaimedLane[];
}

/**
 * Runs jobs of one or more queues, so many at once. Each round is one transaction, shared with whatever else is written in
 * the same tick: the outcomes of the handlers that have ended, and claims for the slots that are free then.
 */
export class QueueWorker implements Worker, ClaimLoop, RunHost {
  readonly #host: WorkerHost;
  readonly #lanes: Lanes;
  /** Each is claimed, and occupies a slot unless it is set aside, until its outcome is committed. */
  readonly #runs = new Set<Run>();
  readonly #slots: Slots;
  /** Ended, to be written. */
  readonly #ended = new Set<Run>();
  /** Whose outcome alone could not be written, and since when; tried again now and then. */
  readonly #aside = new Map<Run, number>();
  #isWriting = false;
  #isStopping = false;
  #isOver = false;
  #pause: Timer | undefined;
  #retry: Timer | undefined;
  #inFlight: InFlight | undefined;
  #last: readonly Settled[] = [];
  readonly #stopped = Promise.withResolvers<void>();
  #offAbort: () => void = () => {};
  readonly #termination = { stop: () => void this.stop(), kill: () => this.#kill() };

  /** @throws FileReplacedError, ClosedError */
  constructor(host: WorkerHost, lanes: readonly Lane[], terms: WorkTerms) {
    this.#host = host;
    this.#slots = new Slots(terms.concurrency, terms.prefetch, (run) => this.#free(run));
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
    return this.#host.alarms;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether it has nothing to do before a handler ends, or somebody wakes it. */
  get isStill(): boolean {
    return this.#isOver || (!this.#isWriting && this.#ended.size === 0 && !this.#mayClaim());
  }

  /** Whether it holds no job, and has found none to claim. */
  get isIdle(): boolean {
    return this.isStill && this.#runs.size === 0;
  }

  /** Whether it runs the jobs of a queue. */
  works(queue: string): boolean {
    return this.#lanes.has(queue);
  }

  /** The jobs that it holds. */
  get held(): readonly Job<unknown>[] {
    return [...this.#runs].map(({ job }) => job);
  }

  get running(): number {
    return this.#slots.running;
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

  heedLimits(mayKeepAhead: (queue: string) => boolean): void {
    for (const queue of this.#slots.waiting) if (!mayKeepAhead(queue)) this.#slots.giveBackWaiting(queue);
  }

  end(): void {
    this.#isOver = true;
    this.#halt();
    for (const run of this.#runs) this.alarms.clear(run);
  }

  leave(connection: Connection): void {
    this.#last = this.#settleOn(connection, [...this.#ended, ...this.#aside.keys()]);
    // What is settled already is as it is.
    for (const { claimed } of this.#inFlight?.claimed ?? []) giveBackClaimed(connection, claimed);
    for (const { job, outcome } of this.#runs) {
      if (outcome === undefined && job.lease.mayBeHeld) job.giveBackOn(connection);
    }
  }

  left(reason: Error, isWritten: boolean): void {
    for (const settled of this.#inFlight?.settled ?? []) this.#settled(settled);
    if (isWritten) for (const settled of this.#last) this.#settled(settled);
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

  call(job: Job<unknown>, lane: Lane): unknown {
    const { starting, around } = this.#host.seams;
    for (const tell of starting) tell(job);
    return around === undefined ? lane.run(job) : around(job, () => lane.run(job));
  }

  /** Of the handle whose worker it is. */
  get context(): WorkerHost {
    return this.#host;
  }

  /** Ends as if its process had died: nothing is written, and its claims stay. Returns what they are on. */
  die(reason: Error): readonly HeldClaim[] {
    const held: HeldClaim[] = [];
    for (const { job } of this.#runs) {
      if (job.lease.mayBeHeld) held.push({ id: job.id, workerId: job.lease.claim.workerId });
    }
    for (const { claimed } of this.#inFlight?.claimed ?? []) {
      for (const { id } of claimed.rows) held.push({ id, workerId: claimed.claim.workerId });
    }
    this.end();
    for (const { job } of this.#runs) job.lease.lose(reason);
    this.#runs.clear();
    this.#finish();
    return held;
  }

  handlerEnded(run: Run): void {
    this.#slots.ended(run);
    if (!this.#isOver) this.#slots.start();
  }

  unavailable(lane: Lane, error: unknown): void {
    if (this.#isOver || !this.#lanes.pause(lane)) return; // by several at once
    this.#slots.giveBackWaiting();
    this.#report(error);
  }

  ended(run: Run): void {
    if (this.#isOver) return;
    const { lease } = run.job;
    if (lease.isLost) {
      this.#tellLate(run);
      this.#free(run);
    } else if (!run.job.settled) {
      this.#ended.add(run);
      this.#pump();
    } else if (!lease.isUndecided) this.#free(run);
  }

  released(run: Run): void {
    if (run.outcome === undefined) return; // its handler is still running
    if (run.job.lease.isLost && this.#ended.has(run)) this.#tellLate(run);
    this.#free(run);
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

  #tellLate(run: Run): void {
    if (run.outcome !== undefined) this.late(run, run.outcome);
  }

  /** Begins a round, unless one is under way, at whose end this is called again. */
  #pump(): void {
    if (this.#isWriting || this.#isOver || this.#pause !== undefined) return;
    if (this.#ended.size === 0 && !this.#mayClaim()) return;
    this.#host.loops.keeper.renewOverdue();
    this.#isWriting = true;
    this.#round().catch((error) => {
      this.#isWriting = false;
      this.#failed(error);
    });
  }

  /** Once `freed` of the slots will be free that are not yet. */
  #mayClaim(freed = 0): boolean {
    return !this.#isStopping && this.#lanes.isOpen && this.#room(freed).capacity > 0;
  }

  /** How many jobs may be claimed, and how many of them can be started at once. */
  #room(freed: number): { readonly capacity: number; readonly startable: number } {
    const held = this.#runs.size - this.#aside.size - freed;
    const { concurrency, capacity: withAhead } = this.#slots;
    const capacity = this.#lanes.isLimited ? concurrency : withAhead;
    return { capacity: capacity - held, startable: Math.max(concurrency - held, 0) };
  }

  async #round(): Promise<void> {
    let settling: Run[] = [];
    const failures: unknown[] = [];
    try {
      const { settled, claimed } = await this.#host.pool.loops.write((connection): InFlight => {
        settling = [...this.#ended]; // all that have ended by now
        this.#ended.clear();
        failures.length = 0;
        const ends = this.#settleOn(connection, settling);
        const lanes = this.#claimOn(connection, settling.length, (error) => failures.push(error));
        this.#inFlight = { settled: ends, claimed: lanes };
        return this.#inFlight;
      });
      if (this.#isOver) return;
      if (settled.length < settling.length) {
        const isSettled = new Set(settled.map(({ run }) => run));
        this.#setAside(settling.filter((run) => !isSettled.has(run)));
      }
      for (const one of settled) this.#settled(one);
      if (this.#isOver) return; // by a listener
      this.#claimed(claimed, failures);
    } catch (error) {
      if (this.#isOver) return;
      for (const run of settling) if (this.#runs.has(run)) this.#ended.add(run);
      this.#failed(error);
    }
    this.#inFlight = undefined;
    for (const failure of failures) this.#report(failure);
    this.#isWriting = false; // not before, or what is freed above would begin a round of its own
    if (this.#isStopping) this.#finishIfIdle();
    this.#pump();
  }

  /** All together, or where that fails each by itself. Those are left out that cannot be written. */
  #settleOn(connection: Connection, runs: readonly Run[]): Settled[] {
    if (runs.length === 0) return [];
    try {
      return inSavepoint(connection, () => settleRuns(connection, runs));
    } catch (error) {
      if (!isInTransaction(connection.handle)) throw error; // SQLite gave the whole transaction up
      if (runs.length > 1) return runs.flatMap((run) => this.#settleOn(connection, [run]));
      this.#report(error);
      return [];
    }
  }

  #claimOn(connection: Connection, freed: number, failed: (error: unknown) => void): ClaimedLane[] {
    if (!this.#mayClaim(freed)) return [];
    const { capacity, startable } = this.#room(freed);
    return this.#lanes.claim(connection, Math.min(capacity, CLAIMED_AT_ONCE), startable, failed);
  }

  /** What alone cannot be written is tried again, and holds up nothing else. */
  #setAside(runs: readonly Run[]): void {
    const now = performance.now();
    for (const run of runs) {
      const since = this.#aside.get(run) ?? now;
      this.#aside.set(run, since);
      if (now - since >= UNWRITABLE_FOR) run.job.lease.lose(run.job.lease.lostError("work"));
    }
    if (this.#aside.size === 0) return;
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const run of this.#aside.keys()) this.#ended.add(run);
      this.#pump();
    }, PAUSE_AFTER_ERROR);
  }

  #claimed(all: readonly ClaimedLane[], failures: unknown[]): void {
    const held: Job<unknown>[] = [];
    for (const { open, claimed, isExhausted } of all) {
      for (const row of claimed.rows) {
        const read = open.lane.read(row, claimed.claim);
        if (this.#isOver) return; // by a schema; then all that were claimed have been given back
        const run = new Run(read.job, open.lane, this);
        this.#runs.add(run);
        held.push(read.job);
        if ("unreadable" in read) run.unreadable(read.unreadable);
        else this.#slots.add(run);
      }
      if (!isExhausted || this.#isStopping) continue;
      try {
        this.#lanes.wait(open);
      } catch (error) {
        failures.push(error);
      }
    }
    this.#host.loops.keeper.hold(held);
    for (const { claimed } of all) claimed.report();
    if (this.#isOver) return; // by a listener
    this.#inFlight = undefined; // each has its run now
    if (this.#isStopping) this.#slots.giveBackWaiting();
    else this.#slots.start();
  }

  #settled({ run, written }: Settled): void {
    if (!this.#runs.has(run)) return; // a listener closes, and it was told already
    const { job, outcome } = run;
    if (written === null) {
      if (!job.settled) {
        this.#tellLate(run);
        job.lease.lose(job.lease.lostError("work"));
      }
      this.#free(run);
      return;
    }
    const error = outcome !== undefined && "error" in outcome ? outcome.error : undefined;
    job.settledByLoop(written === "given back" ? undefined : written, error);
  }

  #free(run: Run): void {
    this.#ended.delete(run);
    this.#aside.delete(run);
    if (!this.#runs.delete(run)) return;
    if (this.#isStopping) this.#finishIfIdle();
    else this.#pump();
  }

  #stopClaiming(): void {
    if (this.#isStopping) return;
    this.#halt();
    this.#slots.giveBackWaiting();
    this.#finishIfIdle();
  }

  /** Nothing is begun any more. */
  #halt(): void {
    this.#isStopping = true;
    this.#offAbort();
    this.#lanes.stop();
    this.#slots.stop();
    if (!this.#isOver) return;
    clearTimeout(this.#pause);
    clearTimeout(this.#retry);
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
    // The lock may be taken for longer than anybody waits. What is left is written when it is free, or on close.
    setTimeout(() => this.#stopped.resolve(), LAST_WRITES);
  }

  #finishIfIdle(): void {
    if (this.#runs.size === 0 && !this.#isWriting && !this.#isOver) this.#finish();
  }

  #finish(error?: Error): void {
    this.#isOver = true;
    this.#halt();
    this.#host.loops.delete(this);
    offTermination(this.#termination);
    this.#lanes.close();
    if (error === undefined) this.#stopped.resolve();
    else this.#stopped.reject(error);
  }

  #failed(error: unknown): void {
    if (this.#isOver) return;
    this.#report(error);
    if (error instanceof FileReplacedError || error instanceof ClosedError) {
      this.fail(error); // no later try can succeed
      return;
    }
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined;
      this.#pump();
    }, PAUSE_AFTER_ERROR);
  }

  #report(error: unknown): void {
    this.#host.report(error, `worker of ${this.#lanes.names}`);
  }

  #kill(): void {
    const { loops, pool, report } = this.#host;
    loops.endNow([this], pool, new WorkerStoppedError("the process was told to end at once"), report);
  }
}
