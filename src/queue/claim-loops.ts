import type { Liveness } from "../liveness/liveness.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import type { Job } from "./job.ts";
import type { ReadyFeed } from "./ready-feed.ts";

/** Something that claims jobs and holds them for a while: an iterator, a worker. */
export interface ClaimLoop {
  /** The jobs whose claims are renewed until they are settled. */
  readonly held: readonly Job<unknown>[];
  /** Claims nothing more, and lets what runs finish; resolves when nothing runs any more, and soon after `deadline`. */
  drain(deadline: Promise<void>): Promise<void>;
  /** Nothing can be claimed any more, and nothing written. */
  fail(error: Error): void;
  /** Somebody has committed. What is claimed ahead of a queue that is paused or limited by now is given back. */
  heedLimits(mayKeepAhead: (queue: string) => boolean): void;
  /** Ends at once. What is held is left by the two calls below. */
  end(): void;
  /** Writes what becomes of the jobs that are still held. */
  leave(connection: Connection): void;
  /** That is committed, or could not be written. */
  left(reason: Error, isWritten: boolean): void;
}

/** The claim loops of one honkbun handle. While there are any, they are woken and their jobs are looked after. */
export class ClaimLoops implements Feed {
  readonly #hub: WakeHub;
  readonly #liveness: Liveness;
  readonly feed: ReadyFeed;
  readonly keeper: ClaimKeeper;
  readonly #running = new Set<ClaimLoop>();

  constructor(hub: WakeHub, liveness: Liveness, feed: ReadyFeed, keeper: ClaimKeeper) {
    this.#hub = hub;
    this.feed = feed;
    this.keeper = keeper;
    this.#liveness = liveness;
  }

  get all(): readonly ClaimLoop[] {
    return [...this.#running];
  }

  /** @throws FileReplacedError, ClosedError */
  add(loop: ClaimLoop): void {
    if (this.#running.size === 0) {
      this.#hub.add(this);
      this.feed.attach();
      this.keeper.attach(this.#running);
      this.#liveness.start(this);
    }
    this.#running.add(loop);
  }

  /** Ends all at once; nothing will be claimed by this handle any more. `last` is written together with what that leaves. */
  close(
    pool: Pool,
    reason: Error,
    report: (error: unknown, where: string) => void,
    last?: (connection: Connection) => void,
  ): void {
    this.endNow(this.all, pool, reason, report, last);
  }

  /** Ends loops at once, and writes what becomes of the jobs that they hold; waits for the write lock to do so. */
  endNow(
    loops: readonly ClaimLoop[],
    pool: Pool,
    reason: Error,
    report: (error: unknown, where: string) => void,
    last?: (connection: Connection) => void,
  ): void {
    for (const loop of loops) loop.end();
    let isWritten = false;
    try {
      // Where it is in vain, their visibility timeout gives them back.
      if ((loops.length > 0 || last !== undefined) && pool.checkFailure() === null) {
        isWritten = pool.writeLast((connection) => {
          for (const loop of loops) loop.leave(connection);
          last?.(connection);
        });
        if (!isWritten) throw new Error("jobs cannot be given back: the only connection is in a transaction");
      }
    } catch (error) {
      report(error, "close");
    }
    for (const loop of loops) loop.left(reason, isWritten);
  }

  /** A loop has ended and holds nothing more. */
  delete(loop: ClaimLoop): void {
    if (!this.#running.delete(loop) || this.#running.size > 0) return;
    this.#hub.remove(this);
    this.feed.detach();
    this.keeper.detach();
    this.#liveness.stop(this);
  }

  get followsLoops(): boolean {
    return false;
  }

  collect(): boolean {
    for (const loop of this.#running) loop.heedLimits((queue) => this.feed.mayKeepAhead(queue));
    return false; // the feeds above see to the rest
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  fail(error: Error): void {
    for (const loop of this.all) loop.fail(error);
  }
}
