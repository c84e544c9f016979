import { expect, test } from "bun:test";

import * as honkbun from "../src/index.ts";
import * as testing from "../src/testing/index.ts";

test("honkbun exports these names and no others", () => {
  expect(Object.keys(honkbun).sort()).toEqual([
    "AmbiguousTransactionError",
    "BusyError",
    "ClaimLostError",
    "DuplicateJobError",
    "HonkbunError",
    "JobCancelledError",
    "JobExpiredError",
    "JobFailedError",
    "JobSettledError",
    "LaggedError",
    "LockLostError",
    "OffsetTrimmedError",
    "PayloadError",
    "ResultNotKeptError",
    "TransactionRequiredError",
    "UnrecoverableError",
    "WaitTimeoutError",
    "open",
  ]);
});

test("honkbun/testing exports these names and no others", () => {
  expect(Object.keys(testing).sort()).toEqual([
    "busy",
    "drain",
    "failNext",
    "killWorker",
    "loseClaims",
    "perform",
    "testDatabase",
  ]);
});

test("every error that is thrown on purpose has a code and its own name", () => {
  for (const [name, error] of Object.entries(honkbun)) {
    if (!name.endsWith("Error") || name === "HonkbunError") continue;
    const instance = new (error as new (...args: unknown[]) => honkbun.HonkbunError)("message", 1);
    expect(instance).toBeInstanceOf(honkbun.HonkbunError);
    expect(instance.name).toBe(name);
    expect(instance.code).toMatch(/^HONKBUN_[A-Z_]+$/);
  }
});
