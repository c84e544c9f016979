/** Milliseconds of work that are claimed ahead. */
const AHEAD = 3;
const MOST_AHEAD = 200;
/** How much the latest handler counts for the mean of their durations. */
const WEIGHT = 0.1;

/** How many jobs a worker claims ahead of those that run. */
export class Prefetch {
  readonly #setting: "auto" | number;
  readonly #concurrency: number;
  /** Of a handler, in milliseconds; a moving mean. */
  #duration = Number.POSITIVE_INFINITY;
  #isStuck = false;

  constructor(setting: "auto" | number, concurrency: number) {
    this.#setting = setting;
    this.#concurrency = concurrency;
  }

  /** A handler took so many milliseconds. */
  took(duration: number): void {
    this.#isStuck = false;
    this.#duration =
      this.#duration === Number.POSITIVE_INFINITY
        ? duration
        : this.#duration + WEIGHT * (duration - this.#duration);
  }

  /** What was claimed ahead had to be given back: nothing more is, until a handler ends. */
  stuck(): void {
    this.#isStuck = true;
  }

  get count(): number {
    if (this.#isStuck) return 0;
    if (this.#setting !== "auto") return this.#setting;
    return Math.floor(Math.min((this.#concurrency * AHEAD) / this.#duration, MOST_AHEAD));
  }
}
