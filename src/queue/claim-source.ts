import { ClosedError, FileReplacedError } from "../errors.ts";
import { PushSource } from "../source.ts";
import type { Job } from "./job.ts";
import type { ReadyFeed, Waiter } from "./ready-feed.ts";

/** What the iterator needs of its queue. */
export interface ClaimHost<P> {
  readonly name: string;
  readonly feed: ReadyFeed;
  /** Claims one job without waiting for the write lock; null when there is none to claim. */
  claimNext(): Promise<Job<P> | null>;
  /** Ends the attempt of a job that the loop's body left unsettled; without waiting for the write lock. */
  retryUnsettled(job: Job<P>): Promise<void>;
  /** Makes a job that nobody has begun claimable again, without using an attempt. */
  giveBack(job: Job<P>): Promise<void>;
  /** Nothing is left to be given back. */
  ended(loop: ClaimLoop): void;
  report(error: unknown, where: string): void;
}

/** A claim loop, whatever its payloads. */
export interface ClaimLoop {
  /** Jobs that the loop has handed out and that may still be claimed by it. */
  readonly held: Iterable<Job<unknown>>;
  end(): void;
}

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Hands jobs to a `for await` loop, one at a time, each claimed when it is asked for. */
export class ClaimSource<P> extends PushSource<Job<P>> implements ClaimLoop, Waiter {
  readonly #host: ClaimHost<P>;
  #claiming = false;
  #current: Job<P> | undefined;
  readonly #held = new Set<Job<P>>();
  #pause: Timer | undefined;

  constructor(host: ClaimHost<P>, signal: AbortSignal | undefined) {
    super();
    this.#host = host;
    this.attach(signal);
  }

  get held(): Iterable<Job<P>> {
    return [...this.#held].filter((job) => job.mayBeHeld);
  }

  override next(): Promise<IteratorResult<Job<P>>> {
    const result = super.next();
    this.#release();
    return result;
  }

  /** Ends the loop. A job that was handed out and not settled is retried: `break` and a throwing body look alike. */
  override async return(): Promise<IteratorResult<Job<P>>> {
    const job = this.#current;
    this.#current = undefined;
    const result = await super.return();
    try {
      if (job?.mayBeHeld) await this.#host.retryUnsettled(job);
    } finally {
      this.#held.clear();
      this.#release();
    }
    return result;
  }

  ready(): void {
    void this.#claim();
  }

  protected override demand(): void {
    void this.#claim();
  }

  protected override push(job: Job<P>): void {
    this.#current = job;
    for (const held of this.#held) if (!held.mayBeHeld) this.#held.delete(held);
    this.#held.add(job);
    super.push(job);
  }

  protected override detached(): void {
    clearTimeout(this.#pause);
    this.#host.feed.cancel(this.#host.name, this);
    this.#release();
  }

  /** Once the loop has ended and holds nothing that `db.close()` would have to give back, it is forgotten. */
  #release(): void {
    if (!this.isEnded || this.#claiming) return;
    for (const _ of this.held) return;
    this.#host.ended(this);
  }

  async #claim(): Promise<void> {
    if (this.#claiming) return;
    this.#claiming = true;
    try {
      while (this.wanted > 0 && !this.isEnded) {
        const job = await this.#host.claimNext();
        if (job !== null) {
          if (!this.isEnded) this.push(job);
          else {
            this.#held.add(job);
            await this.#host.giveBack(job);
            this.#held.delete(job);
          }
        } else if (!this.isEnded && this.#host.feed.wait(this.#host.name, this)) return;
      }
    } catch (error) {
      if (this.isEnded) return;
      if (error instanceof FileReplacedError || error instanceof ClosedError) {
        this.fail(error); // no later try can succeed
        return;
      }
      this.#host.report(error, `claim of ${this.#host.name}`);
      this.#pause = setTimeout(() => this.ready(), PAUSE_AFTER_ERROR);
    } finally {
      this.#claiming = false;
      this.#release();
    }
  }
}
