import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Honkbun } from "../database.ts";
import { type Duration, toEpoch, toMilliseconds } from "../duration.ts";

/** A clock that stands still until it is moved. What has come due by then is noticed at once. */
export interface TestClock {
  /** Epoch milliseconds. */
  readonly now: number;
  advance(by: Duration): void;
  set(to: Date): void;
}

/**
 * A fresh database with a clock of its own, for tests: in memory, or in a file of a temporary folder that goes when it is
 * closed. `now` defaults to the system's time.
 * @example
 * using db = testDatabase();
 */
export function testDatabase(options?: {
  readonly file?: boolean | undefined;
  readonly now?: Date | undefined;
}): Honkbun & { readonly clock: TestClock } {
  const folder = options?.file === true ? mkdtempSync(join(tmpdir(), "honkbun-")) : undefined;
  return new TestHonkbun(folder, toEpoch(options?.now ?? Date.now(), "testDatabase: now"));
}

class TestHonkbun extends Honkbun {
  readonly clock: TestClock;
  readonly #folder: string | undefined;

  constructor(folder: string | undefined, start: number) {
    let now = start;
    super(folder === undefined ? ":memory:" : join(folder, "test.db"), { clock: () => now });
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
