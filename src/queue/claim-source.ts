import { ClosedError, FileReplacedError } from "../errors.ts";
import { PushSource } from "../source.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { ClaimLoop, ClaimLoops } from "./claim-loops.ts";
import type { Job } from "./job.ts";
import type { Waiter } from "./ready-feed.ts";

/** What the iterator needs of its queue. */
export interface ClaimHost<P, R> {
  readonly name: string;
  readonly loops: ClaimLoops;
  /** Claims one job without waiting for the write lock; null when there is none to claim. */
  claimNext(): Promise<Job<P, R> | null>;
  /** The loop's body asks for the next job, or ends, without having settled this one. */
  unsettled(job: Job<P, R>): void;
  /** Ends the attempt of a job that the loop's body left unsettled; without waiting for the write lock. */
  retryUnsettled(job: Job<P, R>): Promise<void>;
  /** Makes a job that nobody has begun claimable again, without using an attempt. */
  giveBack(job: Job<P, R>): Promise<unknown>;
  report(error: unknown, where: string): void;
}

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Hands jobs to a `for await` loop, one at a time, each claimed when it is asked for. */
export class ClaimSource<P, R> extends PushSource<Job<P, R>> implements ClaimLoop, Waiter {
  readonly #host: ClaimHost<P, R>;
  #claiming = false;
  #current: Job<P, R> | undefined;
  readonly #held = new Set<Job<P, R>>();
  #pause: Timer | undefined;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(host: ClaimHost<P, R>, signal: AbortSignal | undefined) {
    super();
    this.#host = host;
    if (!signal?.aborted) host.loops.add(this);
    this.attach(signal);
  }

  leave(connection: Connection): void {
    for (const job of this.#stillHeld()) job.giveBackOn(connection);
  }

  left(reason: Error): void {
    for (const job of this.#stillHeld()) job.lease.lose(reason);
  }

  async drain(deadline: Promise<void>): Promise<void> {
    this.end();
    if (this.#current?.lease.mayBeHeld !== true) return;
    this.#drained = Promise.withResolvers();
    await Promise.race([this.#drained.promise, deadline]);
  }

  override next(): Promise<IteratorResult<Job<P, R>>> {
    this.#leaveCurrent();
    const result = super.next();
    this.#release();
    return result;
  }

  /** Ends the loop. A job that was handed out and not settled is retried: `break` and a throwing body look alike. */
  override async return(): Promise<IteratorResult<Job<P, R>>> {
    const job = this.#leaveCurrent();
    const result = await super.return();
    try {
      if (job !== undefined) await this.#host.retryUnsettled(job);
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

  protected override push(job: Job<P, R>): void {
    const { keeper } = this.#host.loops;
    this.#current = job;
    this.#held.add(job);
    keeper.hold(job);
    job.lease.watchedBy({
      released: () => {
        keeper.drop(job);
        this.#held.delete(job);
        this.#drained?.resolve();
        this.#release();
      },
      reverted: () => {}, // the body, or its end, sees to it
    });
    super.push(job);
  }

  protected override detached(): void {
    clearTimeout(this.#pause);
    this.#host.loops.feed.cancel(this.#host.name, this);
    this.#release();
  }

  /** From here on the claim is not renewed. Returns the job if it may still have to be given up. */
  #leaveCurrent(): Job<P, R> | undefined {
    const job = this.#current;
    this.#current = undefined;
    this.#drained?.resolve();
    if (!job?.lease.mayBeHeld) return undefined;
    this.#host.loops.keeper.drop(job);
    if (!job.settled) this.#host.unsettled(job);
    return job;
  }

  /** Once the loop has ended and holds nothing that `db.close()` would have to give back, it is forgotten. */
  #release(): void {
    if (!this.isEnded || this.#claiming) return;
    if (this.#stillHeld().length === 0) this.#host.loops.delete(this);
  }

  #stillHeld(): Job<P, R>[] {
    return [...this.#held].filter((job) => job.lease.mayBeHeld);
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
        } else if (!this.isEnded && this.#host.loops.feed.wait(this.#host.name, this)) return;
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
