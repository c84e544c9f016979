import type { Clock } from "../clock.ts";
import type { Feed, WakeHub } from "./hub.ts";

interface Alarm {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly ring: () => void;
  readonly failed: ((error: Error) => void) | undefined;
}

/** Calls functions when the clock says so: what may take so long and no longer. */
export class Alarms implements Feed {
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #set = new Map<object, Alarm>();
  /** What the clock said when we looked last. */
  #seen = 0;

  constructor(hub: WakeHub, clock: Clock) {
    this.#hub = hub;
    this.#clock = clock;
  }

  /**
   * Calls `ring` once `delay` milliseconds have passed, unless the alarm of this `owner` is cleared or set anew. `failed` is for
   * owners that nobody else tells when the file is gone.
   * @throws FileReplacedError, ClosedError
   */
  set(owner: object, delay: number, ring: () => void, failed?: (error: Error) => void): void {
    if (this.#set.size === 0) this.#hub.add(this);
    const at = this.#now() + delay;
    this.#set.set(owner, { at, ring, failed });
    this.#hub.deadlineAt(at);
  }

  clear(owner: object): void {
    if (this.#set.delete(owner) && this.#set.size === 0) this.#hub.remove(this);
  }

  get followsLoops(): boolean {
    return false;
  }

  collect(): boolean {
    const now = this.#now();
    const due = [...this.#set].filter(([, { at }]) => at <= now).sort(([, a], [, b]) => a.at - b.at);
    for (const [owner, alarm] of due) {
      if (this.#set.get(owner) !== alarm) continue; // by one before it
      this.clear(owner);
      alarm.ring();
    }
    return false;
  }

  /** A clock that is set back makes nothing last longer. */
  #now(): number {
    const now = this.#clock();
    const back = this.#seen - now;
    this.#seen = now;
    if (back > 0) {
      for (const [owner, alarm] of this.#set) this.#set.set(owner, { ...alarm, at: alarm.at - back });
    }
    return now;
  }

  deadline(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { at } of this.#set.values()) first = Math.min(first, at);
    return first;
  }

  /** When the first rings of certain owners, in epoch milliseconds; Infinity if there is none. */
  deadlineOf(isOne: (owner: object) => boolean): number {
    let first = Number.POSITIVE_INFINITY;
    for (const [owner, { at }] of this.#set) if (isOne(owner)) first = Math.min(first, at);
    return first;
  }

  fail(error: Error): void {
    const all = [...this.#set.values()];
    this.#set.clear();
    for (const { failed } of all) failed?.(error);
  }
}
