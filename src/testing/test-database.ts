import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Honkbun, type OpenOptions } from "../database.ts";
import { type Duration, toEpoch, toMilliseconds } from "../duration.ts";

/** A clock that stands still until it is moved. What has come due by then is noticed at once. */
export interface TestClock {
  /** Epoch milliseconds. */
  readonly now: number;
  advance(by: Duration): void;
  set(to: Date): void;
}

export interface TestDatabaseOptions {
  /** In a file of a temporary folder that goes when the database is closed. Default: in memory. */
  readonly file?: boolean | undefined;
  /** What the clock shows first. Default: the system's time. */
  readonly now?: Date | undefined;
}

/**
 * A fresh database with a clock of its own, for tests.
 * @example
 * using db = testDatabase();
 */
export function testDatabase(options?: TestDatabaseOptions): Honkbun & { readonly clock: TestClock } {
  return new TestHonkbun(options ?? {});
}

/** What `testDatabase` returns, open to the other options of `open`. */
export class TestHonkbun extends Honkbun {
  readonly clock: TestClock;
  readonly #folder: string | undefined;

  constructor({ file, now: start, ...options }: TestDatabaseOptions & Omit<OpenOptions, "clock">) {
    let now = toEpoch(start ?? Date.now(), "testDatabase: now");
    const folder = file === true ? mkdtempSync(join(tmpdir(), "honkbun-")) : undefined;
    super(folder === undefined ? ":memory:" : join(folder, "test.db"), { ...options, clock: () => now });
    this.#folder = folder;
    const move = (to: number): void => {
      now = to;
      this.clockMoved();
    };
    this.clock = {
      get now() {
        return now;
      },
      advance: (by) => move(now + toMilliseconds(by, "clock.advance")),
      set: (to) => move(toEpoch(to, "clock.set")),
    };
  }

  override close(): void {
    super.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
