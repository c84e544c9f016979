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
  ended(loop: ClaimLoop): void;
  report(error: unknown, where: string): void;
}

/** A running claim loop, whatever its payloads. */
export interface ClaimLoop {
  /** The job that the loop's body works on, if it has not settled it. */
  readonly unsettled: Job<unknown> | undefined;
  end(): void;
}

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Hands jobs to a `for await` loop, one at a time, each claimed when it is asked for. */
export class ClaimSource<P> extends PushSource<Job<P>> implements ClaimLoop, Waiter {
  readonly #host: ClaimHost<P>;
  #claiming = false;
  #current: Job<P> | undefined;
  #pause: Timer | undefined;

  constructor(host: ClaimHost<P>, signal: AbortSignal | undefined) {
    super();
    this.#host = host;
    this.attach(signal);
  }

  get unsettled(): Job<P> | undefined {
    return this.#current?.settled === false ? this.#current : undefined;
  }

  /** Ends the loop. A job that was handed out and not settled is retried: `break` and a throwing body look alike. */
  override async return(): Promise<IteratorResult<Job<P>>> {
    const job = this.unsettled;
    this.#current = undefined;
    const result = await super.return();
    if (job !== undefined) await this.#host.retryUnsettled(job);
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
    super.push(job);
  }

  protected override detached(): void {
    clearTimeout(this.#pause);
    this.#host.feed.cancel(this.#host.name, this);
    this.#host.ended(this);
  }

  async #claim(): Promise<void> {
    if (this.#claiming) return;
    this.#claiming = true;
    try {
      while (this.wanted > 0 && !this.isEnded) {
        const job = await this.#host.claimNext();
        if (job !== null) {
          if (this.isEnded) await this.#host.giveBack(job);
          else this.push(job);
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
    }
  }
}
