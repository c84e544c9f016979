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
import type { Attempt, AttemptOutcome } from "../queue/seams.ts";
import { readWorkOptions, type WorkTerms } from "../queue/work-options.ts";
import { QueueWorker } from "../queue/worker.ts";
import { Turns } from "../rate-limit/turns.ts";
import type { SteppedClock } from "./test-clock.ts";
import { stateOf } from "./test-state.ts";
import { nap, turn } from "./turn.ts";
import { Waves } from "./waves.ts";

/** After so many turns of the event loop in which nothing was written nobody has anything to do. */
const QUIET = 3;
/** After so many a handler waits for something else than its turn. */
const STALLED = 20;
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
   * For how long the clock of the test database goes on, from now: from one thing that comes due to the next, and each time until
   * nothing is due. Default: it stands still.
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
 * in which it ended.
 * @throws TypeError when nothing could run, or for `until` without a test clock; an error that names those who enqueue one
 *   another without end; all as rejections
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
  const drainage = new Drainage(target, context, handlers);
  try {
    if (until === undefined || state === undefined) await drainage.rest();
    else await drainage.passTime(state.clock, toMilliseconds(until, "drain: until"));
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

/** What is under way while a database or a queue is drained. */
class Drainage {
  readonly ran: Ran[] = [];
  readonly #context: QueueContext;
  readonly #others: Internals | undefined;
  readonly #only: string | undefined;
  readonly #makers: readonly ((work: WorkTerms) => Lane)[];
  readonly #workers: QueueWorker[] = [];
  readonly #waves: Waves;
  #failure: string | undefined;

  /** @throws TypeError */
  constructor(
    target: Honkbun | AnyQueue,
    context: QueueContext,
    handlers: Readonly<Record<string, AnyHandler>>,
  ) {
    this.#context = context;
    this.#others = target instanceof Honkbun ? target.internals : undefined;
    this.#only = target instanceof Queue ? target.name : undefined;
    this.#makers = this.#makersOf(target, handlers);
    if (this.#makers.length === 0 && !this.#isSomebodyThere()) {
      throw new TypeError(
        `drain: nothing could run${this.#only === undefined ? "" : ` the jobs of ${this.#only}`}: ` +
          "no task has a handler, none is given in handlers, and no worker is running",
      );
    }
    const { pool } = this.#context;
    this.#waves = new Waves(() => pool.read(lastJobId));
    this.#context.seams.ended.add(this.#ended);
    this.#addWorker();
  }

  /**
   * Resolves when nobody has anything to do; where time `passes`, also when a handler waits for it: with when that is.
   * @throws ClosedError; an error that names those who enqueue one another without end
   */
  async rest(passes = false): Promise<number | undefined> {
    for (let quiet = 0; ;) {
      await turn();
      if (this.#failure !== undefined) throw new Error(`drain: ${this.#failure}`);
      if (this.#context.pool.isClosed) throw new ClosedError("drain: this honkbun handle was closed");
      quiet = this.#isQuiet() ? quiet + 1 : 0;
      if (quiet >= QUIET && !this.#isBusy()) return undefined;
      if (quiet < STALLED) continue;
      const allowed = this.#context.alarms.deadlineOf(Turns);
      if (passes && allowed < Number.POSITIVE_INFINITY) return allowed;
      // Of two handlers one may wait for the result of the other.
      if (this.#context.watches.isWatched && this.#workers.every(({ isIdle }) => !isIdle)) this.#addWorker();
      await nap();
    }
  }

  /** Moves the clock on, and rests whenever something has come due. */
  async passTime(clock: SteppedClock, milliseconds: number): Promise<void> {
    const end = clock.now + milliseconds;
    for (let standstills = 0; ;) {
      const next = (await this.rest(true)) ?? clock.nextDeadline();
      if (next > end) break;
      standstills = next > clock.now ? 0 : standstills + 1;
      if (standstills > MOST_STANDSTILLS) throw new Error("drain: something is due that nobody does");
      clock.moveTo(Math.max(next, clock.now));
    }
    clock.moveTo(end);
    await this.rest();
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    this.#context.seams.ended.delete(this.#ended);
  }

  #makersOf(
    target: Honkbun | AnyQueue,
    handlers: Readonly<Record<string, AnyHandler>>,
  ): readonly ((work: WorkTerms) => Lane)[] {
    const all = new Map(this.#context.lanes);
    const opened = stateOf(this.#context.pool)?.queues;
    for (const [name, handler] of Object.entries(handlers)) {
      if (this.#only !== undefined && name !== this.#only) {
        throw new TypeError(`drain: handlers.${name}: it is the queue ${this.#only} that is drained`);
      }
      const queue: AnyQueue =
        target instanceof Queue
          ? target
          : (opened?.get(name) ?? new Queue(this.#context, name, readQueueOptions("drain", undefined)));
      all.set(name, (work) => queue.lane(handler, work));
    }
    return [...all]
      .filter(([name]) => this.#only === undefined || name === this.#only)
      .map(([, make]) => make);
  }

  /** One job at a time, so that they run in order. */
  #addWorker(): void {
    if (this.#makers.length === 0 || this.#workers.length === MOST_WORKERS) return;
    const work = readWorkOptions({ concurrency: 1, prefetch: 0 });
    const lanes = this.#makers.map((make) => make(work));
    this.#workers.push(new QueueWorker(this.#context, lanes, work));
  }

  readonly #ended = ({ job, outcome, error, result }: Attempt): void => {
    const { id, queue } = job;
    if (this.#only !== undefined && queue !== this.#only) return;
    this.ran.push({
      id,
      queue,
      outcome,
      ...(error === undefined ? {} : { error }),
      ...(result === undefined ? {} : { result }),
    });
    this.#failure ??= this.#waves.add(job, this.#context.clock());
  };

  get #allWorkers(): readonly QueueWorker[] {
    return this.#context.loops.all.filter((loop) => loop instanceof QueueWorker);
  }

  #isSomebodyThere(): boolean {
    return this.#allWorkers.length > 0 || (this.#others?.streams.feed.all.length ?? 0) > 0;
  }

  /** Nothing is being written, or about to be woken. */
  #isQuiet(): boolean {
    const { pool, hub } = this.#context;
    return pool.loops.isEmpty && hub.isSettled && this.#allWorkers.every(({ isStill }) => isStill);
  }

  /** Somebody has something in hand. */
  #isBusy(): boolean {
    if (this.#allWorkers.some(({ isIdle }) => !isIdle)) return true;
    if (this.#others === undefined) return false;
    const { streams, schedules } = this.#others;
    return streams.feed.all.some(({ isBusy }) => isBusy) || [...schedules.runs].some(({ isBusy }) => isBusy);
  }
}
