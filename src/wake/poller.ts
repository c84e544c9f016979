/** Milliseconds between two looks: this while there are commits, doubled while there are none, up to the other. */
const SHORTEST_PAUSE = 1;
const LONGEST_PAUSE = 100;
const QUIET = 8;

/** Looks again and again, where nothing can be watched. */
export class Poller {
  readonly #look: () => number | null;
  readonly #onQuiet: () => void;
  #timer: Timer | undefined;
  #pause = SHORTEST_PAUSE;

  /** `look` says after how many milliseconds to look again, or null where that is for nothing; `onQuiet` is called after a while of that. */
  constructor(look: () => number | null, onQuiet: () => void) {
    this.#look = look;
    this.#onQuiet = onQuiet;
  }

  get isRunning(): boolean {
    return this.#timer !== undefined;
  }

  start(): void {
    if (this.#timer === undefined) this.#schedule();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pause = SHORTEST_PAUSE;
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      this.#schedule(); // first: a look may stop us
      const pause = this.#look();
      if (pause !== null) this.#pause = pause;
      else if (this.#pause >= QUIET) this.#onQuiet();
    }, this.#pause);
    this.#timer.unref();
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }
}
