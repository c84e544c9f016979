/** Milliseconds of looking without pause, then pauses of 1, 2, 4 … up to this. */
const TIGHT = 1;
const LONGEST_PAUSE = 512;

/**
 * After a file event, looks again and again for about a second: at once, without pause for a millisecond, then with
 * growing pauses. The event comes when a commit's frames are written; the commit becomes visible later, without a
 * further event, and how much later depends on the disk.
 */
export class LookLadder {
  readonly #look: () => void;
  #tightUntil = 0;
  #pause = 1;
  #immediate: NodeJS.Immediate | undefined;
  #timer: Timer | undefined;

  constructor(look: () => void) {
    this.#look = look;
  }

  /** Starts anew from the first rung. */
  restart(): void {
    this.stop();
    this.#tightUntil = performance.now() + TIGHT;
    this.#pause = 1;
    this.#immediate = setImmediate(this.#step);
    this.#look();
  }

  stop(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
  }

  readonly #step = (): void => {
    // The next rung first: a look may restart or stop the ladder.
    if (performance.now() < this.#tightUntil) {
      this.#immediate = setImmediate(this.#step);
    } else if (this.#pause <= LONGEST_PAUSE) {
      this.#timer = setTimeout(this.#step, this.#pause);
      this.#timer.unref();
      this.#pause *= 2;
    }
    this.#look();
  };
}
