import type { Context } from "../context.ts";
import { FileReplacedError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import { type Claimant, giveUp } from "./statements.ts";

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Those who want a lock no more, held or waited for, until that is written: without waiting for the write lock. */
export class Leaving {
  readonly #context: Context;
  readonly #claimants = new Set<Claimant>();

  constructor(context: Context) {
    this.#context = context;
  }

  get isEmpty(): boolean {
    return this.#claimants.size === 0;
  }

  /** Resolves when it is written; never rejects. */
  async add(claimant: Claimant): Promise<void> {
    const { pool, clock, report } = this.#context;
    this.#claimants.add(claimant);
    while (!pool.isClosed) {
      try {
        await pool.loops.write((connection) => giveUp(connection, claimant, clock()));
        break;
      } catch (error) {
        if (pool.isClosed) break; // closing has seen to it
        if (error instanceof FileReplacedError) break; // no later try can succeed, and whoever waits was told
        report(error, `release of the lock ${claimant.name}`);
        await Bun.sleep(PAUSE_AFTER_ERROR);
      }
    }
    this.#claimants.delete(claimant);
  }

  /** Lets all go, on a connection that is inside a transaction. */
  leave(connection: Connection): void {
    const now = this.#context.clock();
    for (const claimant of this.#claimants) giveUp(connection, claimant, now);
  }
}
