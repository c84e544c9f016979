import "./matchers.ts";

export { drain, type DrainOptions, type Ran } from "./drain.ts";
export { busy, failNext, killWorker, loseClaims } from "./faults.ts";
export type { EnqueuedOptions, PublishedOptions, TimesOption } from "./matchers.ts";
export { perform } from "./perform.ts";
export type { TestClock } from "./test-clock.ts";
export { testDatabase, type TestDatabaseOptions } from "./test-database.ts";
