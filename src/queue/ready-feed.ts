import type { Clock } from "../clock.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import { isLimited, readStanding } from "./admission.ts";
import { nextDeadline } from "./operations.ts";

/** Somebody who waits for a queue to have something to claim. */
export interface Waiter {
  /** Called once per wait, in a later turn: try to claim, and wait again if there was nothing. */
  ready(): void;
  /** Whether a claim would find more than what is in the queue by now. */
  hasMore?(connection: Connection): boolean;
}

/** Wakes the claim loops of all queues: on a look, each queue that is waited for is asked once when it is next due. */
export class ReadyFeed implements Feed {
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Entry>();

  constructor(pool: Pool, hub: WakeHub, clock: Clock) {
    this.#pool = pool;
    this.#hub = hub;
    this.#clock = clock;
  }

  /** To be called before any wait: what commits from now on is collected. */
  attach(): void {
    this.#hub.add(this);
  }

  detach(): void {
    this.#hub.remove(this);
  }

  /** False, and no wait, when the queue has something to claim right now; else `waiter.ready` is called once it has. */
  wait(queue: string, waiter: Waiter): boolean {
    const entry: Entry = this.#waiting.get(queue) ?? {
      waiters: new Set(),
      deadline: Number.POSITIVE_INFINITY,
    };
    this.#waiting.set(queue, entry);
    entry.waiters.add(waiter);
    if (this.#isReady(queue, entry)) {
      this.cancel(queue, waiter);
      return false;
    }
    this.#hub.deadlineAt(entry.deadline);
    return true;
  }

  /** Whether jobs of the queue may be held that are not started yet. */
  mayKeepAhead(queue: string): boolean {
    const standing = this.#pool.readCommitted((connection) => readStanding(connection, queue, this.#clock()));
    return !standing.isPaused && !isLimited(standing);
  }

  cancel(queue: string, waiter: Waiter): void {
    const entry = this.#waiting.get(queue);
    if (!entry?.waiters.delete(waiter) || entry.waiters.size > 0) return;
    this.#waiting.delete(queue);
  }

  get followsLoops(): boolean {
    return true;
  }

  collect(): boolean {
    for (const [queue, entry] of [...this.#waiting]) {
      if (!this.#isReady(queue, entry)) continue;
      for (const waiter of [...entry.waiters]) {
        this.cancel(queue, waiter);
        waiter.ready();
      }
    }
    return false;
  }

  deadline(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { deadline } of this.#waiting.values()) first = Math.min(first, deadline);
    return first;
  }

  fail(): void {
    this.#waiting.clear(); // who waits is a loop, and told as such
  }

  #isReady(queue: string, entry: Entry): boolean {
    const now = this.#clock();
    entry.deadline = this.#pool.readCommitted((connection) => {
      for (const waiter of entry.waiters) if (waiter.hasMore?.(connection)) return now;
      return nextDeadline(connection, queue, now);
    });
    return entry.deadline <= now;
  }
}

interface Entry {
  readonly waiters: Set<Waiter>;
  deadline: number;
}
