import { Database } from "bun:sqlite";
import { writeFileSync } from "node:fs";

import { z } from "zod";

import type { CheckReport } from "../check/finding.ts";
import { Honkbun, type OpenOptions } from "../database.ts";
import { toEpoch } from "../duration.ts";
import { readOptions } from "../options.ts";
import { freshImage } from "./image.ts";
import { SteppedClock, type TestClock } from "./test-clock.ts";
import { TestFolder } from "./test-folder.ts";
import { beginTest } from "./test-state.ts";

export interface TestDatabaseOptions {
  /** In a file of a temporary folder that goes when the database is closed. Default: in memory. */
  readonly file?: boolean | undefined;
  /** What the clock shows first. Default: the system's time, as `setSystemTime` has it. */
  readonly now?: Date | undefined;
}

/** What `check` says of a trigger of recording.ts. */
const RECORDER = "the trigger _honkbun_recorded_";

const OPTIONS = z.strictObject({
  file: z.boolean().optional(),
  now: z.date().optional(),
}) as z.ZodType<TestDatabaseOptions>;

/**
 * A fresh database with a clock of its own, for tests. `unixepoch()` on its `sqlite` goes by it, from Bun 1.4.4 on.
 * @throws TypeError, RangeError
 * @example
 * using db = testDatabase();
 */
export function testDatabase(options?: TestDatabaseOptions): Honkbun & { readonly clock: TestClock } {
  return new TestHonkbun(readOptions("testDatabase", OPTIONS, options));
}

/** What `testDatabase` returns, open to the other options of `open`. */
export class TestHonkbun extends Honkbun {
  readonly clock: TestClock;
  readonly #folder: TestFolder | undefined;

  constructor({ file, now, ...options }: TestDatabaseOptions & Omit<OpenOptions, "clock">) {
    const clock = new SteppedClock(toEpoch(now ?? Date.now(), "testDatabase: now"));
    const folder = file === true ? new TestFolder() : undefined;
    const image = freshImage();
    if (folder !== undefined) writeFileSync(folder.file, image);
    super(folder?.file ?? Database.deserialize(image), { ...options, clock: () => clock.now }, true);
    this.#folder = folder;
    this.clock = clock;
    // What plain SQL and triggers store is due by it too. Bun before 1.4.4 has no such functions.
    this.sqlite.function?.("unixepoch", () => Math.floor(clock.now / 1_000));
    beginTest(this.internals, clock);
  }

  /** Without the triggers that record what matchers ask for. */
  override check(): CheckReport {
    const { findings, ...report } = super.check();
    return { ...report, findings: findings.filter(({ message }) => !message.startsWith(RECORDER)) };
  }

  override close(): void {
    super.close();
    this.#folder?.remove();
  }
}
