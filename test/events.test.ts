import { afterEach, beforeEach, describe, expect, type Mock, spyOn, test } from "bun:test";

import { Emitter } from "../src/events.ts";

describe("on", () => {
  let printed: Mock<typeof console.error>;
  beforeEach(() => {
    printed = spyOn(console, "error").mockImplementation(() => {});
  });
  afterEach(() => printed.mockRestore());

  const event = { error: new Error("mine"), where: "somewhere" };

  test("calls every listener until it is disposed", () => {
    const emitter = new Emitter();
    const heard: string[] = [];
    const first = emitter.on("error", ({ where }) => void heard.push(`first ${where}`));
    emitter.on("error", ({ where }) => void heard.push(`second ${where}`));
    emitter.emit("error", event);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    emitter.emit("error", event);
    expect(heard).toEqual(["first somewhere", "second somewhere", "second somewhere"]);
    expect(printed).not.toHaveBeenCalled();
  });

  test("takes one function twice as two subscriptions", () => {
    const emitter = new Emitter();
    let calls = 0;
    const listener = (): void => void calls++;
    using _ = emitter.on("error", listener);
    emitter.on("error", listener)[Symbol.dispose]();
    emitter.emit("error", event);
    expect(calls).toBe(1);
  });

  test("prints errors when nobody listens", () => {
    new Emitter().emit("error", event);
    expect(printed.mock.calls).toEqual([["honkbun: somewhere:", event.error]]);
  });

  test("prints what a listener of errors throws, and calls the others", () => {
    const emitter = new Emitter();
    const thrown = new Error("from the listener");
    let calls = 0;
    emitter.on("error", () => {
      throw thrown;
    });
    emitter.on("error", () => void calls++);
    emitter.emit("error", event);
    expect(calls).toBe(1);
    expect(printed.mock.calls).toEqual([["honkbun: a listener of error threw:", thrown]]);
  });
});
