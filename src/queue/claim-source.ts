import { ClosedError, FileReplacedError } from "../errors.ts";
import { PushSource } from "../source.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { ClaimLoop, ClaimLoops } from "./claim-loops.ts";
import { type Claimed, giveBackClaimed, type Read } from "./claiming.ts";
import type { Job } from "./job.ts";
import type { Claim } from "./lease.ts";
import type { Waiter } from "./ready-feed.ts";
import type { LiveRow } from "./statements.ts";

/** What the iterator needs of its queue. Nothing here waits for the write lock but as the event loop goes on. */
export interface ClaimHost<P, R> {
  readonly name: string;
  readonly loops: ClaimLoops;
  /** Claims a job, if there is one, and perhaps some ahead; `claimed` is called within the transaction. */
  claimNext(claimed: (claimed: Claimed) => void): Promise<Claimed>;
  read(row: LiveRow, claim: Claim): Read<Job<P, R>>;
  /** Ends the attempt of a job that cannot be read. */
  settleUnreadable(job: Job<P, R>, unreadable: unknown): Promise<void>;
  /** The loop's body asks for the next job, or ends, without having settled this one. */
  unsettled(job: Job<P, R>): void;
  /** Ends the attempt of a job that the loop's body left unsettled. */
  retryUnsettled(job: Job<P, R>): Promise<void>;
  /** Makes jobs that nobody has begun claimable again, without using an attempt. */
  giveBack(claimed: Claimed): Promise<unknown>;
  giveBackJobs(jobs: readonly Job<P, R>[]): Promise<void>;
  report(error: unknown, where: string): void;
}

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Hands jobs to a `for await` loop, one at a time, each claimed when it is asked for, or some ahead. */
export class ClaimSource<P, R> extends PushSource<Job<P, R>> implements ClaimLoop, Waiter {
  readonly #host: ClaimHost<P, R>;
  #claiming = false;
  /** Claimed by a transaction that may not be known to have ended. */
  #inFlight: Claimed | undefined;
  /** Claimed ahead, in order. */
  #ahead: Read<Job<P, R>>[] = [];
  /** Handed out, and in the hands of the loop's body. */
  readonly #current = new Set<Job<P, R>>();
  /** Left by the body, and what becomes of them is not written yet. */
  readonly #left = new Set<Job<P, R>>();
  /** Several consumers ask at once: nobody can tell whose job is the one before. */
  #isShared = false;
  #pause: Timer | undefined;
  #givingBack: Promise<void> = Promise.resolve();
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(host: ClaimHost<P, R>, signal: AbortSignal | undefined) {
    super();
    this.#host = host;
    if (!signal?.aborted) host.loops.add(this);
    this.attach(signal);
  }

  get held(): readonly Job<unknown>[] {
    return [...this.#current, ...this.#ahead.map(({ job }) => job)];
  }

  leave(connection: Connection): void {
    if (this.#inFlight !== undefined) giveBackClaimed(connection, this.#inFlight);
    for (const job of this.#stillHeld()) job.giveBackOn(connection);
  }

  heedLimits(mayKeepAhead: (queue: string) => boolean): void {
    if (this.#ahead.length > 0 && !mayKeepAhead(this.#host.name)) void this.#giveBackAhead();
  }

  left(reason: Error): void {
    for (const job of this.#stillHeld()) job.lease.lose(reason);
  }

  async drain(deadline: Promise<void>): Promise<void> {
    this.end();
    if (this.#current.size === 0) return;
    this.#drained = Promise.withResolvers();
    await Promise.race([this.#drained.promise, deadline]);
  }

  override next(): Promise<IteratorResult<Job<P, R>>> {
    if (this.wanted > 0) this.#isShared = true;
    if (!this.#isShared) this.#leaveCurrent();
    const result = super.next();
    this.#release();
    return result;
  }

  /** Ends the loop. A job that was handed out and not settled is retried: `break` and a throwing body look alike. */
  override async return(): Promise<IteratorResult<Job<P, R>>> {
    const unsettled = this.#leaveCurrent();
    for (const job of unsettled) this.#left.add(job);
    const result = await super.return();
    // What is settled on an open transaction of the application's waits for that, and that may wait for us.
    await this.#giveBackAhead();
    const retries = unsettled.map((job) => this.#host.retryUnsettled(job).finally(() => this.#drop(job)));
    await Promise.all(retries);
    return result;
  }

  ready(): void {
    void this.#claim();
  }

  protected override demand(): void {
    void this.#claim();
  }

  #hold(read: Read<Job<P, R>>): void {
    const { job } = read;
    this.#ahead.push(read);
    this.#host.loops.keeper.hold([job]);
    job.lease.watchedBy({
      released: () => this.#drop(job),
      reverted: () => void this.#reverted(job),
    });
  }

  protected override detached(): void {
    clearTimeout(this.#pause);
    this.#host.loops.feed.cancel(this.#host.name, this);
    void this.#giveBackAhead();
    this.#release();
  }

  /** From here on their claims are not renewed. Returns those that were not settled. */
  #leaveCurrent(): Job<P, R>[] {
    const unsettled: Job<P, R>[] = [];
    for (const job of [...this.#current]) {
      if (job.lease.isUndecided) this.#left.add(job);
      else if (!job.settled) unsettled.push(job);
      this.#current.delete(job);
      if (!job.settled) this.#host.unsettled(job);
    }
    this.#drained?.resolve();
    return unsettled;
  }

  #drop(job: Job<P, R>): void {
    this.#current.delete(job);
    this.#left.delete(job);
    this.#ahead = this.#ahead.filter((read) => read.job !== job);
    if (this.#current.size === 0) this.#drained?.resolve();
    this.#release();
  }

  /** The transaction that had settled the job was rolled back. */
  async #reverted(job: Job<P, R>): Promise<void> {
    if (!this.#left.has(job)) return; // the body has yet to end
    try {
      await this.#host.retryUnsettled(job);
    } catch (error) {
      this.#host.report(error, `claim of ${this.#host.name}`);
    }
    this.#drop(job);
  }

  /** Resolves when all that was claimed ahead is given back, as far as that can be written. */
  #giveBackAhead(): Promise<void> {
    const jobs = this.#ahead.map(({ job }) => job);
    if (jobs.length > 0) {
      for (const job of jobs) this.#left.add(job);
      this.#ahead = [];
      this.#givingBack = this.#giveBack(jobs);
    }
    return this.#givingBack;
  }

  async #giveBack(jobs: readonly Job<P, R>[]): Promise<void> {
    try {
      await this.#host.giveBackJobs(jobs);
    } catch (error) {
      this.#host.report(error, `claim of ${this.#host.name}`); // their claims expire
    }
    for (const job of jobs) this.#drop(job);
  }

  /** Once the loop has ended and holds nothing that `db.close()` would have to give back, it is forgotten. */
  #release(): void {
    if (!this.isEnded || this.#claiming) return;
    if (this.#stillHeld().length === 0) this.#host.loops.delete(this);
  }

  #stillHeld(): Job<P, R>[] {
    const ahead = this.#ahead.map(({ job }) => job);
    return [...this.#current, ...this.#left, ...ahead].filter((job) => job.lease.mayBeHeld);
  }

  async #claim(): Promise<void> {
    if (this.#claiming) return;
    this.#claiming = true;
    try {
      while (this.wanted > 0 && !this.isEnded) {
        const next = this.#ahead[0];
        if (next !== undefined) {
          const settling = this.#handOut(next);
          if (settling !== undefined) await settling;
          continue;
        }
        const claimed = await this.#host.claimNext((inFlight) => {
          this.#inFlight = inFlight;
        });
        for (const row of claimed.rows) {
          if (this.isEnded) break;
          this.#hold(this.#host.read(row, claimed.claim));
        }
        if (this.isEnded) await this.#host.giveBack(claimed); // it may have ended in the midst, by a schema
        this.#inFlight = undefined; // each is held now
        claimed.report();
        if (claimed.rows.length > 0 || this.isEnded) continue;
        if (this.#host.loops.feed.wait(this.#host.name, this)) return;
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

  #handOut({ job, ...read }: Read<Job<P, R>>): Promise<void> | undefined {
    if ("unreadable" in read) return this.#host.settleUnreadable(job, read.unreadable);
    this.#ahead.shift();
    this.#current.add(job);
    this.push(job);
    return undefined;
  }
}
