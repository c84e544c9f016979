import { describe, expect, test } from "bun:test";

import { type Duration, toEpoch, toMilliseconds } from "../src/duration.ts";

describe("a duration", () => {
  test.each<[Duration, number]>([
    [0, 0],
    [1.5, 1.5],
    ["250ms", 250],
    ["10s", 10_000],
    ["1.5s", 1_500],
    ["5m", 300_000],
    ["2h", 7_200_000],
    ["7d", 604_800_000],
  ])("%p is %p milliseconds", (duration, milliseconds) => {
    expect(toMilliseconds(duration, "x")).toBe(milliseconds);
  });

  test.each(["", "5", "5 s", "-5s", "5w", "s", "1e3s", " 5s", "5s "])("is not %p", (text) => {
    expect(() => toMilliseconds(text as Duration, "call: option")).toThrow(TypeError);
    expect(() => toMilliseconds(text as Duration, "call: option")).toThrow(
      `call: option must be milliseconds or text like "250ms", "10s", "5m", "2h" or "7d", got ${JSON.stringify(text)}`,
    );
  });

  test("that no date could hold is refused, in whatever form", () => {
    expect(() => toMilliseconds("999999999999d", "call: option")).toThrow(RangeError);
    expect(() => toMilliseconds(1e300, "call: option")).toThrow(RangeError);
  });

  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY])("is not %p", (number) => {
    expect(() => toMilliseconds(number, "call: option")).toThrow(RangeError);
  });
});

describe("an instant", () => {
  test("is a date or epoch milliseconds, in whole milliseconds rounded up", () => {
    expect(toEpoch(new Date(5), "x")).toBe(5);
    expect(toEpoch(5.2, "x")).toBe(6);
  });

  test.each([
    ["2030-01-01", TypeError],
    [null, TypeError],
    [new Date("x"), RangeError],
    [-1, RangeError],
    [9e15, RangeError],
  ])("is not %p", (instant, error) => {
    expect(() => toEpoch(instant as Date, "call: option")).toThrow(error);
  });
});
