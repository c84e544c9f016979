import type { OpenOptions } from "../../src/database.ts";
import { type TestDatabaseOptions, TestHonkbun } from "../../src/testing/test-database.ts";

/** A test database whose wake-ups get no help from the safety look. */
export function database(options?: TestDatabaseOptions & Omit<OpenOptions, "clock">): TestHonkbun {
  // Ahead of the system's clock, which plain SQL goes by: what is inserted by hand without a run_at is due.
  const now = new Date(Date.now() + 60_000);
  return new TestHonkbun({ now, wake: { safetyInterval: false }, ...options });
}
