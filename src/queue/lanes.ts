import type { Connection } from "../sqlite/connection.ts";
import type { Claimed } from "./claiming.ts";
import type { Lane } from "./lane.ts";
import type { ReadyFeed, Waiter } from "./ready-feed.ts";

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

  constructor(lane: Lane, wake: () => void) {
    this.lane = lane;
    this.#wake = wake;
  }

  ready(): void {
    this.isWaiting = false;
    this.#wake();
  }
}

/** The lanes of one worker, which share its slots. */
export class Lanes {
  readonly #feed: ReadyFeed;
  readonly #wake: () => void;
  readonly #all: OpenLane[] = [];
  #turn = 0;

  /** `wake` is called when a lane has something to claim again. */
  constructor(feed: ReadyFeed, wake: () => void) {
    this.#feed = feed;
    this.#wake = wake;
  }

  get names(): string {
    return this.#all.map(({ lane }) => lane.queue).join(", ");
  }

  /** Whether there may be something to claim. */
  get isOpen(): boolean {
    return this.#all.some(({ isWaiting }) => !isWaiting);
  }

  add(lane: Lane): void {
    this.#all.push(new OpenLane(lane, this.#wake));
  }

  /** Free slots are shared out among the lanes that have jobs, beginning with another one each time. */
  claim(connection: Connection, slots: number): ClaimedLane[] {
    const result: ClaimedLane[] = [];
    const first = this.#turn++ % Math.max(this.#all.length, 1);
    const rotated = [...this.#all.slice(first), ...this.#all.slice(0, first)];
    let lanes = rotated.filter(({ isWaiting }) => !isWaiting);
    for (let free = slots; free > 0 && lanes.length > 0;) {
      const filled: OpenLane[] = [];
      for (const [index, open] of lanes.entries()) {
        if (free === 0) break;
        const share = Math.ceil(free / (lanes.length - index));
        const claimed = open.lane.claim(connection, share);
        free -= claimed.rows.length;
        const isExhausted = claimed.rows.length < share;
        result.push({ open, claimed, isExhausted });
        if (!isExhausted) filled.push(open);
      }
      lanes = filled;
    }
    return result;
  }

  /** From now on the lane is passed over, until it has something to claim. */
  wait(open: OpenLane): void {
    open.isWaiting = this.#feed.wait(open.lane.queue, open);
  }

  /** No lane wakes any more. */
  close(): void {
    for (const open of this.#all) this.#feed.cancel(open.lane.queue, open);
  }
}
