import { expect, test } from "bun:test";

import { LookLadder } from "../../src/wake/look-ladder.ts";
import { eventually } from "../support/eventually.ts";

/** A ladder, and when it has looked; `find` makes the next look find something. */
function ladder(): { readonly rungs: LookLadder; readonly looks: number[]; find(): void } {
  let isThere = false;
  const looks: number[] = [];
  const rungs = new LookLadder(() => {
    looks.push(performance.now());
    const isFound = isThere;
    isThere = false;
    return isFound;
  });
  const find = (): void => {
    isThere = true;
  };
  return { rungs, looks, find };
}

test("after an event it is looked at once, without pause for a moment, then more and more seldom", async () => {
  // Where another program has the core for that moment it is tried again.
  for (let tries = 1; ; tries++) {
    const { rungs, looks } = ladder();
    const start = performance.now();
    rungs.restart(true);
    expect(looks.length).toBe(1);
    await eventually(() => (looks.at(-1) ?? 0) - start > 60, "it is looked for a while");
    rungs.stop();
    expect(looks.filter((at) => at - start > 3).length).toBeLessThan(10);
    if (looks.filter((at) => at - start < 1).length > 10) break;
    expect(tries).toBeLessThan(50);
  }
});

test("what is found ends the looking without pause, and what comes then is looked for after a pause", async () => {
  const { rungs, looks, find } = ladder();
  find();
  rungs.restart(true);
  await eventually(() => looks.length >= 3, "it is looked again");
  rungs.stop();
  expect((looks[2] ?? 0) - (looks[0] ?? 0)).toBeGreaterThan(0.9); // one more that was under way
});

test("events that come all the time do not have it looked without pause all the time", async () => {
  const { rungs, looks } = ladder();
  let events = 0;
  for (const end = performance.now() + 200; performance.now() < end; events++) {
    rungs.restart(true);
    await Bun.sleep(1);
  }
  rungs.stop();
  const perMillisecond = Map.groupBy(looks, (at) => Math.floor(at)).values();
  const busy = [...perMillisecond].filter(({ length }) => length > 10);
  expect(events).toBeGreaterThan(50);
  expect(busy.length).toBeLessThan(25);
});

test("where a pause will do, it is looked at once, and then after a pause", async () => {
  const { rungs, looks } = ladder();
  rungs.restart(false);
  expect(looks.length).toBe(1);
  await eventually(() => looks.length >= 2, "it is looked again");
  rungs.stop();
  expect((looks[1] ?? 0) - (looks[0] ?? 0)).toBeGreaterThan(0.9);
});
