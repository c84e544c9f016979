import type { ClaimKeeper } from "./claim-keeper.ts";
import type { Job } from "./job.ts";
import type { ReadyFeed } from "./ready-feed.ts";

/** A claim loop, whatever its payloads. */
export interface ClaimLoop {
  /** Jobs that the loop has handed out and that may still be claimed by it. */
  readonly held: Iterable<Job<unknown>>;
  end(): void;
}

/** The claim loops of one honkbun handle. While there are any, they are woken and their jobs are looked after. */
export class ClaimLoops {
  readonly feed: ReadyFeed;
  readonly keeper: ClaimKeeper;
  readonly #running = new Set<ClaimLoop>();

  constructor(feed: ReadyFeed, keeper: ClaimKeeper) {
    this.feed = feed;
    this.keeper = keeper;
  }

  /** @throws FileReplacedError, ClosedError */
  add(loop: ClaimLoop): void {
    if (this.#running.size === 0) {
      this.feed.attach();
      this.keeper.attach();
    }
    this.#running.add(loop);
  }

  /** A loop has ended and holds nothing more. */
  delete(loop: ClaimLoop): void {
    if (!this.#running.delete(loop) || this.#running.size > 0) return;
    this.feed.detach();
    this.keeper.detach();
  }

  /** Ends every loop. Returns the jobs that they still held. */
  endAll(): Job<unknown>[] {
    const all = [...this.#running];
    for (const loop of all) loop.end();
    return all.flatMap((loop) => [...loop.held]);
  }
}
