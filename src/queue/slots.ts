import { Prefetch } from "./prefetch.ts";
import type { Run } from "./run.ts";

/** Milliseconds for which handlers are started one after the other before the event loop has its turn. */
const START_SLICE = 2;
/** Milliseconds for which jobs that are claimed ahead wait for any of them to be started; then they are given back. */
const PATIENCE = 10;

/** The slots of a worker: which of the jobs that it has claimed run, and which wait for their turn. */
export class Slots {
  readonly concurrency: number;
  readonly #prefetch: Prefetch;
  readonly #skipped: (run: Run) => void;
  /** In the order in which they were claimed. */
  readonly #waiting: Run[] = [];
  #running = 0;
  /** When a handler was started last, by `performance.now()`. */
  #startedAt = 0;
  #isStarting = false;
  #nextSlice: NodeJS.Immediate | undefined;
  #impatience: Timer | undefined;

  /** `skipped` is called for a job that was lost before its turn came. */
  constructor(concurrency: number, prefetch: "auto" | number, skipped: (run: Run) => void) {
    this.concurrency = concurrency;
    this.#prefetch = new Prefetch(prefetch, concurrency);
    this.#skipped = skipped;
  }

  /** How many handlers run. */
  get running(): number {
    return this.#running;
  }

  /** How many jobs may be claimed at once: those that run, and those ahead. */
  get capacity(): number {
    return this.concurrency + this.#prefetch.count;
  }

  add(run: Run): void {
    this.#waiting.push(run);
  }

  /** A handler has ended, and its slot is free. */
  ended(run: Run): void {
    this.#running--;
    if (run.duration !== undefined) this.#prefetch.took(run.duration);
  }

  /** Starts what has a slot. Handlers that do all their work at once must not keep the event loop from its turn. */
  readonly start = (): void => {
    if (this.#isStarting || this.#waiting.length === 0) return; // further up, it is under way
    this.#isStarting = true;
    const end = performance.now() + START_SLICE;
    clearImmediate(this.#nextSlice);
    this.#nextSlice = undefined;
    while (this.#running < this.concurrency) {
      const run = this.#waiting.shift();
      if (run === undefined) break;
      if (run.job.lease.isLost) {
        this.#skipped(run);
        continue;
      }
      this.#running++;
      run.start(); // which may end it, or stop us, and leave nothing to start
      this.#startedAt = performance.now();
      if (this.#startedAt >= end && this.#waiting.length > 0) {
        this.#nextSlice = setImmediate(this.start);
        break;
      }
    }
    this.#isStarting = false;
    if (this.#waiting.length > 0) this.#beImpatient();
  };

  /** The queues of what waits. */
  get waiting(): ReadonlySet<string> {
    return new Set(this.#waiting.map(({ job }) => job.queue));
  }

  /** What waits, of a queue or of all, is given back without using an attempt. */
  giveBackWaiting(queue?: string): void {
    const [staying, going] = [[] as Run[], [] as Run[]];
    for (const run of this.#waiting.splice(0)) {
      (queue === undefined || run.job.queue === queue ? going : staying).push(run);
    }
    this.#waiting.push(...staying);
    for (const run of going) run.giveBack();
  }

  /** Nothing is started by itself any more. */
  stop(): void {
    clearImmediate(this.#nextSlice);
    clearTimeout(this.#impatience);
    this.#impatience = undefined;
  }

  /** What waits for a slot is not kept from other workers for long. */
  #beImpatient(wait = PATIENCE): void {
    this.#impatience ??= setTimeout(() => {
      this.#impatience = undefined;
      if (this.#waiting.length === 0) return;
      const left = this.#startedAt + PATIENCE - performance.now();
      if (left > 0) this.#beImpatient(left);
      else this.#losePatience(this.#startedAt);
    }, wait);
  }

  /** Unless one is started before: after a time in which the process had no turn, handlers that are due to end have theirs first. */
  #losePatience(startedAt: number): void {
    this.#impatience = setTimeout(() => {
      this.#impatience = undefined;
      if (this.#waiting.length === 0) return;
      if (this.#startedAt !== startedAt) {
        this.#beImpatient();
        return;
      }
      this.#prefetch.stuck();
      this.giveBackWaiting();
    }, 1);
  }
}
