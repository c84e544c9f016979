import type { Clock } from "../clock.ts";

/** Milliseconds between two looks at the clock. */
const INTERVAL = 1_000;
/** What is seen so little too late was seen. */
const GRACE = 10_000;
/** A clock that goes ahead of the time that passes was set, or the machine slept. */
const JUMP = 5_000;
/** A process that had no turn for longer was suspended, whatever its clocks say. */
const LONGEST_BLOCK = 60_000;

/**
 * Knows since when this process has been there to see boundaries pass. A busy event loop sees them late; a machine that slept, and a
 * clock that was set forwards, saw nothing.
 */
export class Presence {
  readonly #clock: Clock;
  readonly #wentBack: () => void;
  readonly #timer: Timer;
  #since: number;
  #at: number;
  #elapsed = performance.now();

  /** `wentBack` is called when the clock was set back. */
  constructor(clock: Clock, wentBack: () => void) {
    this.#clock = clock;
    this.#wentBack = wentBack;
    this.#at = clock();
    this.#since = this.#at;
    this.#timer = setInterval(() => this.look(), INTERVAL).unref();
  }

  /** Boundaries from this time on, in epoch milliseconds, have been seen, or will be. */
  look(): number {
    const [now, elapsed] = [this.#clock(), performance.now()];
    const moved = now - this.#at;
    const passed = elapsed - this.#elapsed;
    this.#at = now;
    this.#elapsed = elapsed;
    if (moved - passed > JUMP || moved > LONGEST_BLOCK) this.#since = now;
    else if (moved - passed < -JUMP) {
      this.#since = now;
      this.#wentBack();
    }
    return Math.min(this.#since, now) - GRACE;
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
