import type { OpenOptions } from "../../src/database.ts";
import { type TestDatabaseOptions, TestHonkbun } from "../../src/testing/test-database.ts";

/** A test database whose wake-ups get no help from the safety look. */
export function database(options?: TestDatabaseOptions & Omit<OpenOptions, "clock">): TestHonkbun {
  return new TestHonkbun({ wake: { safetyInterval: false }, ...options });
}
