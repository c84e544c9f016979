export { type TestClock, testDatabase } from "./test-database.ts";
