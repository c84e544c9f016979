import { type Clock, toUnixSeconds } from "../clock.ts";
import type { Pool } from "../sqlite/pool.ts";
import { preparePubSubStatements } from "./statements.ts";

/** A sweep looks at so many of the oldest rows, so that it holds the write lock for a few milliseconds at most. */
const PORTION = 1_000;
/** Sweeps come after so many notifications, or after the first one in a minute. */
const EVERY = 1_000;
const PAUSE = 60_000;
/** Seconds for which a row stays whatever their number: listeners that keep up must have seen it. */
const GRACE = 10;

/** Deletes old notifications, by whoever sends or receives them, in bounded portions. */
export class Pruning {
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #maxAge: number;
  readonly #maxCount: number;
  readonly #report: (error: unknown, where: string) => void;
  #noticed = 0;
  #last = Number.NEGATIVE_INFINITY;
  #running = false;

  /** `maxAge` in milliseconds; Infinity for no bound. */
  constructor(
    pool: Pool,
    clock: Clock,
    keep: { readonly maxAge: number; readonly maxCount: number },
    report: (error: unknown, where: string) => void,
  ) {
    this.#pool = pool;
    this.#clock = clock;
    this.#maxAge = keep.maxAge;
    this.#maxCount = keep.maxCount;
    this.#report = report;
  }

  /** Counts notifications that were sent or received here, and sweeps now and then. */
  noticed(count: number): void {
    this.#noticed += count;
    if (this.#running) return;
    if (this.#noticed < EVERY && Math.abs(this.#clock() - this.#last) < PAUSE) return;
    this.#running = true;
    void this.#sweep()
      .catch((error) => {
        if (!this.#pool.isClosed) this.#report(error, "pruning of notifications");
      })
      .finally(() => {
        this.#running = false;
      });
  }

  /** Deletes everything that may go, portion by portion. */
  async #sweep(): Promise<void> {
    this.#noticed = 0;
    this.#last = this.#clock();
    // Not in the tick of the send: that one's caller waits for nothing of ours.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (!this.#pool.isClosed) {
      const bounds = this.#bounds();
      const found = this.#pool.readCommitted((connection) =>
        connection.use(preparePubSubStatements).prunable.get(...bounds),
      );
      if (!found?.n) return; // asked first, because a write would wake every process
      await this.#pool.loops.write((connection) =>
        connection.use(preparePubSubStatements).prune.run(...bounds),
      );
      if (found.n < PORTION) return;
    }
  }

  #bounds(): [number, number, number, number] {
    const now = this.#clock();
    const last = this.#pool.readCommitted(
      (connection) => connection.use(preparePubSubStatements).last.get()?.id ?? 0,
    );
    const oldestAllowed = this.#maxAge === Number.POSITIVE_INFINITY ? 0 : toUnixSeconds(now - this.#maxAge);
    const surplusThrough = this.#maxCount === Number.POSITIVE_INFINITY ? 0 : last - this.#maxCount;
    return [PORTION, surplusThrough, oldestAllowed, toUnixSeconds(now) - GRACE];
  }
}
