import type { Clock } from "../clock.ts";
import type { Feed, WakeHub } from "./hub.ts";

interface Alarm {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly ring: () => void;
}

/** Calls functions when the clock says so: what may take so long and no longer. */
export class Alarms implements Feed {
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #set = new Map<object, Alarm>();

  constructor(hub: WakeHub, clock: Clock) {
    this.#hub = hub;
    this.#clock = clock;
  }

  /**
   * Calls `ring` once `delay` milliseconds have passed, unless the alarm of this `owner` is cleared or set anew.
   * @throws FileReplacedError, ClosedError
   */
  set(owner: object, delay: number, ring: () => void): void {
    if (this.#set.size === 0) this.#hub.add(this);
    const at = this.#clock() + delay;
    this.#set.set(owner, { at, ring });
    this.#hub.deadlineAt(at);
  }

  clear(owner: object): void {
    if (this.#set.delete(owner) && this.#set.size === 0) this.#hub.remove(this);
  }

  get followsLoops(): boolean {
    return false;
  }

  collect(): boolean {
    const now = this.#clock();
    for (const [owner, alarm] of [...this.#set]) {
      if (alarm.at > now || this.#set.get(owner) !== alarm) continue;
      this.clear(owner);
      alarm.ring();
    }
    return false;
  }

  deadline(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { at } of this.#set.values()) first = Math.min(first, at);
    return first;
  }

  fail(): void {
    this.#set.clear(); // their owners are told themselves
  }
}
