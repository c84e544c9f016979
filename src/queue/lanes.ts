import type { Connection } from "../sqlite/connection.ts";
import { inSavepoint, isInTransaction } from "../sqlite/transaction.ts";
import type { Claimed } from "./claiming.ts";
import type { Lane } from "./lane.ts";
import type { ReadyFeed, Waiter } from "./ready-feed.ts";

/** Milliseconds for which a lane is passed over whose claim has failed, for want of a disk, say. */
const PAUSE_AFTER_ERROR = 1_000;

/** What was claimed for one lane. */
export interface ClaimedLane {
  readonly open: OpenLane;
  readonly claimed: Claimed;
  /** Fewer than were asked for: there are no more. */
  readonly isExhausted: boolean;
}

/** A lane of a worker, and whether there was nothing to claim when we looked last. */
export class OpenLane implements Waiter {
  readonly lane: Lane;
  readonly #wake: () => void;
  isWaiting = false;
  /** Nothing is claimed ahead, as far as we know. */
  isLimited = false;
  #pause: Timer | undefined;

  constructor(lane: Lane, wake: () => void) {
    this.lane = lane;
    this.#wake = wake;
  }

  get isPaused(): boolean {
    return this.#pause !== undefined;
  }

  ready(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.isWaiting = false;
    this.#wake();
  }

  hasMore(connection: Connection): boolean {
    return this.lane.hasMore?.(connection) ?? false;
  }

  /** Something is wrong with its claims: it is tried again after a while. */
  pause(): void {
    this.isWaiting = true;
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.ready(), PAUSE_AFTER_ERROR);
  }

  stop(): void {
    clearTimeout(this.#pause);
  }
}

/** The lanes of one worker, which share its slots. */
export class Lanes {
  readonly #feed: ReadyFeed;
  readonly #wake: () => void;
  readonly #all: OpenLane[] = [];
  /** Who was served last: the one after it comes first next time. */
  #served: OpenLane | undefined;

  /** `wake` is called when a lane has something to claim again. */
  constructor(feed: ReadyFeed, wake: () => void) {
    this.#feed = feed;
    this.#wake = wake;
  }

  get names(): string {
    return this.#all.map(({ lane }) => lane.queue).join(", ");
  }

  has(queue: string): boolean {
    return this.#all.some(({ lane }) => lane.queue === queue);
  }

  /** Whether there may be something to claim. */
  get isOpen(): boolean {
    return this.#all.some(({ isWaiting }) => !isWaiting);
  }

  /** Whether any lane has jobs that may not be claimed ahead: then none are, or its jobs would find no slot. */
  get isLimited(): boolean {
    return this.#all.some(({ isWaiting, isLimited }) => !isWaiting && isLimited);
  }

  add(lane: Lane): void {
    this.#all.push(new OpenLane(lane, this.#wake));
  }

  /**
   * Free slots, of which so many can be started at once, are shared out among the lanes that have jobs, in turn. A lane whose
   * claim fails is told to `failed`, and passed over for a while; the others go on.
   */
  claim(
    connection: Connection,
    slots: number,
    startable: number,
    failed: (error: unknown) => void,
  ): ClaimedLane[] {
    const result: ClaimedLane[] = [];
    const next = this.#served === undefined ? 0 : this.#all.indexOf(this.#served) + 1;
    const rotated = [...this.#all.slice(next), ...this.#all.slice(0, next)];
    let lanes = rotated.filter(({ isWaiting }) => !isWaiting);
    let now = startable;
    for (let free = slots; free > 0 && lanes.length > 0;) {
      const filled: OpenLane[] = [];
      for (const [index, open] of lanes.entries()) {
        if (free === 0) break;
        const share = Math.ceil(free / (lanes.length - index));
        try {
          // What is claimed already stays, whatever happens to this one.
          const claimed = inSavepoint(connection, () => open.lane.claim(connection, share, now));
          const count = claimed.rows.length;
          free -= count;
          if (count > 0) this.#served = open;
          open.isLimited = claimed.isLimited;
          const isExhausted = count < (claimed.isLimited ? Math.min(share, now) : share);
          now = Math.max(now - count, 0);
          result.push({ open, claimed, isExhausted });
          if (!isExhausted && (!open.isLimited || now > 0)) filled.push(open);
        } catch (error) {
          if (!isInTransaction(connection.handle)) throw error; // SQLite gave the whole transaction up
          open.pause();
          failed(error);
        }
      }
      lanes = filled;
    }
    return result;
  }

  /** The lane is passed over for a while. False when it is already. */
  pause(lane: Lane): boolean {
    const open = this.#all.find((one) => one.lane === lane);
    if (open === undefined || open.isPaused) return false;
    open.pause();
    return true;
  }

  /** From now on the lane is passed over, until it has something to claim. */
  wait(open: OpenLane): void {
    if (!open.isPaused) open.isWaiting = this.#feed.wait(open.lane.queue, open);
  }

  /** No lane wakes any more. */
  stop(): void {
    for (const open of this.#all) {
      this.#feed.cancel(open.lane.queue, open);
      open.stop();
    }
  }

  /** Nothing runs any more. */
  close(): void {
    for (const { lane } of this.#all) lane.close?.();
  }
}
