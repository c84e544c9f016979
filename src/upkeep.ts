import type { Clock } from "./clock.ts";
import type { Pool } from "./sqlite/pool.ts";

/** What is old is looked for after so many additions, or after the first one in so many milliseconds. */
const EVERY = 1_000;
const PAUSE = 60_000;

/** Deletes now and then what is old, by whoever adds or sees something new, in bounded portions. */
export class Upkeep {
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  readonly #portion: () => Promise<boolean>;
  #noticed = 0;
  #last = Number.NEGATIVE_INFINITY;
  #running = false;

  /** `portion` deletes a bounded number, and resolves with whether there is more. */
  constructor(pool: Pool, clock: Clock, report: (error: unknown) => void, portion: () => Promise<boolean>) {
    this.#pool = pool;
    this.#clock = clock;
    this.#report = report;
    this.#portion = portion;
  }

  /** Counts what was added or seen. */
  noticed(count: number): void {
    this.#noticed += count;
    if (this.#running) return;
    if (this.#noticed < EVERY && Math.abs(this.#clock() - this.#last) < PAUSE) return;
    this.#running = true;
    void this.#run()
      .catch((error) => {
        if (!this.#pool.isClosed) this.#report(error);
      })
      .finally(() => {
        this.#running = false;
      });
  }

  async #run(): Promise<void> {
    this.#noticed = 0;
    this.#last = this.#clock();
    // Not in the tick of whoever has added something: that one waits for nothing of ours.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (!this.#pool.isClosed && (await this.#portion()));
  }
}
