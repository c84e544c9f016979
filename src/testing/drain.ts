import { z } from "zod";

import { Honkbun, type Internals } from "../database.ts";
import { type Duration, show, toMilliseconds } from "../duration.ts";
import { ClosedError } from "../errors.ts";
import { duration, readOptions } from "../options.ts";
import { lastJobId } from "../queue/flow-insertion.ts";
import type { Job } from "../queue/job.ts";
import type { Lane } from "../queue/lane.ts";
import type { QueueContext } from "../queue/queue-context.ts";
import { readQueueOptions } from "../queue/queue-options.ts";
import { Queue } from "../queue/queue.ts";
import { readWorkOptions, type WorkTerms } from "../queue/work-options.ts";
import { QueueWorker } from "../queue/worker.ts";
import type { Attempt, AttemptOutcome } from "../seams.ts";
import type { Follower } from "../stream/feed.ts";
import { Chains } from "./chains.ts";
import { isPerformed } from "./perform.ts";
import type { SteppedClock } from "./test-clock.ts";
import { stateOf, type TestState } from "./test-state.ts";
import { nap, turn } from "./turn.ts";

/** After so many turns of the event loop in which nothing was written nobody has anything to do. */
const QUIET = 3;
/** After so many a handler waits for something else than its turn; and after so many in which no attempt began or ended. */
const STALLED = 20;
const MOST_TURNS = 5_000;
/** Milliseconds between two looks at what waits. */
const NAP = 1;
/** Milliseconds of real time after which handlers that wait for one another, or for the clock, wait in vain. */
const VAIN_AFTER = 1_000;
/** After so many it is said what is waited for. */
const HINT_AFTER = 3_000;
/** Handlers that wait for one another's results at most. */
const MOST_WORKERS = 100;
/** Steps of the clock at most in which it stands still. */
const MOST_STANDSTILLS = 1_000;

/** An attempt that was made. */
export interface Ran {
  readonly id: number;
  readonly queue: string;
  /** `"retried"`: it failed, and another one follows; `"dead"`: it was the last. */
  readonly outcome: AttemptOutcome;
  /** What it failed with. */
  readonly error?: unknown;
  /** What the handler has returned, or acked the job with. */
  readonly result?: unknown;
}

// biome-ignore lint/suspicious/noExplicitAny: what a queue's jobs are the handler says, and a map cannot know
type AnyHandler = (job: Job<any, any>) => unknown;
// biome-ignore lint/suspicious/noExplicitAny: of whatever type its payloads are
type AnyQueue = Queue<any, any, any>;

export interface DrainOptions {
  /**
   * For how long the clock of the test database goes on, from now: from one thing that comes due to the next, each time until nothing
   * is due, or all handlers wait for a result, a lock or a rate limit. Default: it stands still.
   */
  readonly until?: Duration | undefined;
  /** By the names of their queues, whose schemas and options go as `db.queue` was called last; they win over those of tasks. */
  readonly handlers?: Readonly<Record<string, AnyHandler>> | undefined;
}

const OPTIONS = z.strictObject({
  until: duration.optional(),
  handlers: z
    .record(
      z.string(),
      z.custom<AnyHandler>((value) => typeof value === "function", "must be a function"),
    )
    .optional(),
}) as z.ZodType<DrainOptions>;

/**
 * Runs what is due, one job after the other, and what the handlers enqueue, until nothing is due; waits for the workers, consumers
 * and groups that run already. Handlers are those of tasks and outboxes, and those given. Resolves with what was run, in the order
 * in which it ended. Not for use in a handler, which it would wait for.
 * @throws TypeError when nothing could run, or for `until` without a test clock; an error that names jobs that enqueue one another
 *   without end, handlers that wait for what cannot come, or a consumer of a stream that has stopped by an error; ClosedError; all as
 *   rejections
 */
export async function drain(target: Honkbun | AnyQueue, options?: DrainOptions): Promise<readonly Ran[]> {
  const { until, handlers = {} } = readOptions("drain", OPTIONS, options);
  const context = contextOf(target);
  const state = stateOf(context.pool);
  if (until !== undefined && state === undefined) {
    throw new TypeError(
      "drain: until moves the clock, and this database has none to move: make it by testDatabase",
    );
  }
  const time = until === undefined ? undefined : toMilliseconds(until, "drain: until");
  const drainage = new Drainage(target, context, handlers, time !== undefined);
  try {
    if (time === undefined || state === undefined) await drainage.rest();
    else await drainage.passTime(state.clock, time);
  } finally {
    await drainage.end();
  }
  return drainage.ran;
}

/** @throws TypeError */
function contextOf(target: Honkbun | AnyQueue): QueueContext {
  if (target instanceof Honkbun) return target.internals.queues;
  if (target instanceof Queue) return target.context;
  throw new TypeError(`drain: target must be a database or a queue, got ${show(target)}`);
}

/** The workers of all drains: they may work on the same queues. */
const ours = new WeakSet<QueueWorker>();

/** What is under way while a database or a queue is drained. */
class Drainage {
  readonly ran: Ran[] = [];
  readonly #context: QueueContext;
  readonly #state: TestState | undefined;
  readonly #others: Internals | undefined;
  readonly #only: string | undefined;
  readonly #makers: readonly ((work: WorkTerms) => Lane)[];
  readonly #workers: QueueWorker[] = [];
  readonly #chains: Chains;
  /** That have begun or ended. */
  #attempts = 0;
  #failure: Error | undefined;
  #hintAt = performance.now() + HINT_AFTER;

  /** @throws TypeError */
  constructor(
    target: Honkbun | AnyQueue,
    context: QueueContext,
    handlers: Readonly<Record<string, AnyHandler>>,
    passesTime: boolean,
  ) {
    const { pool, seams } = context;
    this.#context = context;
    this.#state = stateOf(pool);
    this.#others = target instanceof Honkbun ? target.internals : undefined;
    this.#only = target instanceof Queue ? target.name : undefined;
    this.#makers = this.#makersOf(target, handlers);
    const hasSchedules = passesTime && this.#only === undefined;
    if (this.#makers.length === 0 && !this.#isSomebodyThere() && !hasSchedules) {
      throw new TypeError(
        `drain: nothing could run${this.#only === undefined ? "" : ` the jobs of ${this.#only}`}: ` +
          "no task has a handler, none is given in handlers, and no worker is running",
      );
    }
    this.#chains = new Chains(() => pool.read(lastJobId));
    seams.starting.add(this.#starting);
    seams.ended.add(this.#ended);
    this.#others?.streams.feed.failed.add(this.#failed);
    this.#addWorker();
  }

  /**
   * Resolves when nobody has anything to do; with an `end` to which time passes, also when all handlers wait for it: with when what
   * they wait for comes.
   * @throws ClosedError; an error that names those who enqueue one another without end, wait in vain, or have failed
   */
  async rest(end?: number): Promise<number | undefined> {
    let naps = 0;
    let since = performance.now();
    let quiet = 0;
    let hasLooked = false;
    for (let turns = 0; ; turns++) {
      const attempts = this.#attempts;
      await turn();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#context.pool.isClosed) throw new ClosedError("drain: this honkbun handle was closed");
      this.#hintIfLong();
      if (attempts !== this.#attempts) [turns, naps, since] = [0, 0, performance.now()];
      quiet = this.#isQuiet() ? quiet + 1 : 0;
      if (quiet >= QUIET && !this.#isBusy()) {
        if (hasLooked) return undefined;
        hasLooked = true;
        quiet = 0;
        this.#context.hub.collectSoon(); // in memory nobody tells of what plain SQL has written
      }
      if (quiet < STALLED && turns < MOST_TURNS) continue;
      if (this.#state?.handlers.areWaiting(this.#held) === true) {
        const next = end === undefined ? Number.POSITIVE_INFINITY : this.#state.clock.nextDeadlineOfWaits();
        if (next <= (end ?? 0)) return next;
        // Under fake timers only naps tell the time.
        if (Math.max(naps * NAP, performance.now() - since) > VAIN_AFTER) this.#waitsInVain(end);
      }
      // Of two handlers one may wait for the result of the other.
      if (this.#context.watches.isWatched && this.#workers.every(({ isIdle }) => !isIdle)) this.#addWorker();
      await nap(NAP);
      naps++;
    }
  }

  /** Moves the clock on, and rests whenever something has come due. */
  async passTime(clock: SteppedClock, milliseconds: number): Promise<void> {
    const end = clock.now + milliseconds;
    for (let standstills = 0; ;) {
      const next = (await this.rest(end)) ?? clock.nextDeadline();
      if (next > end) break;
      standstills = next > clock.now ? 0 : standstills + 1;
      if (standstills > MOST_STANDSTILLS) throw new Error("drain: something is due that nobody does");
      clock.pass(next);
    }
    clock.pass(end);
    await this.rest(clock.now);
  }

  async end(): Promise<void> {
    const stopped = Promise.allSettled(this.#workers.map((worker) => worker.stop()));
    if (this.#failure === undefined) await stopped; // else handlers may run for ever
    const { starting, ended } = this.#context.seams;
    starting.delete(this.#starting);
    ended.delete(this.#ended);
    this.#others?.streams.feed.failed.delete(this.#failed);
  }

  /** @throws always */
  #waitsInVain(end: number | undefined): never {
    const when = end === undefined ? "while the clock stands still (until moves it)" : "before until is over";
    this.#failure = new Error(
      `drain: ${this.#explain()} waits for a result, a lock or a rate limit that does not come ${when}`,
    );
    throw this.#failure;
  }

  #hintIfLong(): void {
    if (performance.now() < this.#hintAt) return;
    this.#hintAt = Number.POSITIVE_INFINITY;
    console.warn(
      `drain: has been at it for ${HINT_AFTER} ms, and made ${this.ran.length} attempts; now waits for ${this.#explain()}`,
    );
  }

  #explain(): string {
    const jobs = this.#held.map(({ id, queue }) => `job ${id} of ${queue}`);
    const streams = this.#others?.streams.feed.all.filter(({ isBusy }) => isBusy) ?? [];
    const all = [
      ...(jobs.length === 0 ? [] : [`the handler of ${jobs.join(", ")}`]),
      ...streams.map(({ topic }) => `a consumer of ${topic}`),
      ...(this.#context.pool.writer.isOccupied ? ["a transaction on db.sqlite that is left open"] : []),
    ];
    return all.length === 0 ? "what comes next" : all.join("; ");
  }

  #makersOf(
    target: Honkbun | AnyQueue,
    handlers: Readonly<Record<string, AnyHandler>>,
  ): readonly ((work: WorkTerms) => Lane)[] {
    const { lanes } = this.#context;
    const all = new Map(lanes);
    for (const [name, run] of Object.entries(handlers)) {
      if (this.#only !== undefined && name !== this.#only) {
        throw new TypeError(`drain: handlers.${name}: it is the queue ${this.#only} that is drained`);
      }
      if (this.#allWorkers.some((worker) => worker.works(name) && !ours.has(worker))) {
        throw new TypeError(
          `drain: handlers.${name}: a worker is running the jobs of that queue; stop it first`,
        );
      }
      const known = lanes.get(name);
      const queue: AnyQueue = target instanceof Queue ? target : this.#open(name);
      // In place of a task's handler it is given the task's input.
      all.set(name, (work) => (known === undefined ? queue.lane(run, work) : withHandler(known(work), run)));
    }
    return [...all]
      .filter(([name]) => this.#only === undefined || name === this.#only)
      .map(([, make]) => make);
  }

  #open(name: string): AnyQueue {
    const opened = this.#state?.queues.get(name);
    return opened ?? new Queue(this.#context, name, readQueueOptions("drain", undefined));
  }

  /** One job at a time, so that they run in order. */
  #addWorker(): void {
    if (this.#makers.length === 0) return;
    if (this.#workers.length === MOST_WORKERS) {
      this.#failure = new Error(`drain: more than ${MOST_WORKERS} handlers wait for one another's results`);
      return;
    }
    const work = readWorkOptions({ concurrency: 1, prefetch: 0 });
    const lanes = this.#makers.map((make) => make(work));
    const worker = new QueueWorker(this.#context, lanes, work);
    ours.add(worker);
    this.#workers.push(worker);
  }

  readonly #starting = (job: Job<unknown>): void => {
    this.#attempts++;
    if (!isPerformed(job)) this.#chains.begin(job);
  };

  readonly #ended = ({ job, outcome, error, result }: Attempt): void => {
    this.#attempts++;
    const { id, queue } = job;
    if (isPerformed(job)) return;
    const isDone = outcome === "completed" || outcome === "dead";
    const endless = this.#chains.end(job, isDone, this.#state?.clock.now ?? 0);
    if (endless !== undefined) this.#failure ??= new Error(`drain: ${endless}`);
    if (this.#only !== undefined && queue !== this.#only) return;
    this.ran.push({
      id,
      queue,
      outcome,
      ...(error === undefined ? {} : { error }),
      ...(result === undefined ? {} : { result }),
    });
  };

  readonly #failed = ({ topic }: Follower, cause: Error): void => {
    this.#failure ??= new Error(`drain: a consumer of ${topic} has stopped: ${cause.message}`, { cause });
  };

  get #allWorkers(): readonly QueueWorker[] {
    return this.#context.loops.all.filter((loop) => loop instanceof QueueWorker);
  }

  /** The jobs that handlers have, or are to have next. */
  get #held(): readonly Job<unknown>[] {
    return this.#allWorkers.flatMap(({ held }) => held);
  }

  #isSomebodyThere(): boolean {
    return this.#allWorkers.length > 0 || (this.#others?.streams.feed.all.length ?? 0) > 0;
  }

  /** Nothing is being written, or about to be woken. */
  #isQuiet(): boolean {
    const { pool, hub } = this.#context;
    return pool.loops.isEmpty && hub.isSettled && this.#allWorkers.every(({ isStill }) => isStill);
  }

  /** Somebody has something in hand that concerns us. */
  #isBusy(): boolean {
    const only = this.#only;
    const workers = this.#allWorkers.filter((worker) => only === undefined || worker.works(only));
    if (workers.some(({ isIdle }) => !isIdle)) return true;
    if (this.#others === undefined) return false;
    const { streams, schedules } = this.#others;
    return streams.feed.all.some(({ isBusy }) => isBusy) || [...schedules.runs].some(({ isBusy }) => isBusy);
  }
}

function withHandler(lane: Lane, run: AnyHandler): Lane {
  return {
    queue: lane.queue,
    claim: (connection, count, startable) => lane.claim(connection, count, startable),
    read: (row, claim) => lane.read(row, claim),
    timeout: (job) => lane.timeout(job),
    run,
  };
}
