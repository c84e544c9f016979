import { Honkbun, type OpenOptions } from "../../src/database.ts";
import { type Duration, toMilliseconds } from "../../src/duration.ts";
import type { TestClock } from "../../src/testing/index.ts";
import { type TestDatabaseOptions, TestHonkbun } from "../../src/testing/test-database.ts";
import { Folder } from "./folder.ts";

/** A test database whose wake-ups get no help from the safety look. */
export function database(options?: TestDatabaseOptions & Omit<OpenOptions, "clock">): TestHonkbun {
  // Ahead of the system's clock, which plain SQL goes by: what is inserted by hand without a run_at is due.
  const now = new Date(Date.now() + 60_000);
  return new TestHonkbun({ now, wake: { safetyInterval: false }, ...options });
}

/** A database whose clock is set as a machine's is: it jumps, and nobody sees what lay between. */
export class JumpingHonkbun extends Honkbun {
  readonly clock: TestClock;
  /** The machine sleeps for so long: when it wakes nobody has looked at the clock yet. */
  readonly sleep: (by: Duration) => void;
  readonly #folder: Folder | undefined;

  constructor({ file = false, now: start }: { readonly file?: boolean; readonly now: Date }) {
    let now = start.getTime();
    const folder = file ? new Folder() : undefined;
    super(folder?.file() ?? ":memory:", { clock: () => now, wake: { safetyInterval: false } });
    this.#folder = folder;
    const jump = (to: number): void => {
      now = to;
      this.internals.queues.hub.clockMoved();
    };
    this.sleep = (by) => {
      now += toMilliseconds(by, "sleep");
    };
    this.clock = {
      get now() {
        return now;
      },
      advance: (by) => jump(now + toMilliseconds(by, "advance")),
      set: (to) => jump(to.getTime()),
    };
  }

  override close(): void {
    super.close();
    this.#folder?.[Symbol.dispose]();
  }
}
