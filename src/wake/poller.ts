/** Milliseconds between two looks: this while there are commits, doubled while there are none, up to the other. */
const SHORTEST_PAUSE = 1;
const LONGEST_PAUSE = 100;

/** Looks again and again, where nothing can be watched. */
export class Poller {
  readonly #look: () => boolean;
  #timer: Timer | undefined;
  #pause = SHORTEST_PAUSE;

  /** `look` says whether there was a commit. */
  constructor(look: () => boolean) {
    this.#look = look;
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
      if (this.#look()) this.#pause = SHORTEST_PAUSE;
    }, this.#pause);
    this.#timer.unref();
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }
}
