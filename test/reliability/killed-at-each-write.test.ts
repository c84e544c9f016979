import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";
import { assertIntegrity, contents, workload, WorkloadClock } from "../support/workload.ts";

/** Processes that run at once. */
const AT_ONCE = 2;

/** What is stored before the first step and after each. */
async function expectedContents(): Promise<string[]> {
  using folder = new Folder();
  const clock = new WorkloadClock();
  using db = open(folder.file(), { clock: clock.read });
  const states = [contents(folder.file())];
  for (const { run } of workload(db, clock)) {
    await run();
    states.push(contents(folder.file()));
  }
  return states;
}

/** Runs the workload in a process that is killed after so many writes. Resolves with all that it has said. */
async function run(path: string, killedAt: number): Promise<unknown[]> {
  await using child = new Process("killed-workload", path, killedAt);
  const said: unknown[] = [];
  for (let line = await child.next(); line !== undefined; line = await child.next()) said.push(line);
  return said;
}

test("a process that is killed at any write leaves each step done or not begun, and loses none that had returned", async () => {
  using folder = new Folder();
  const states = await expectedContents();
  const writes = (await run(folder.file("whole.db"), 0)).at(-1) as number;
  expect(contents(folder.file("whole.db"))).toBe(states.at(-1) ?? "");
  expect(writes).toBeGreaterThan(100);

  let next = 1;
  const worker = async (): Promise<void> => {
    for (let killedAt = next++; killedAt <= writes; killedAt = next++) {
      const path = folder.file(`${killedAt}.db`);
      const done = (await run(path, killedAt)).length;
      assertIntegrity(path);
      open(path, { clock: () => 0 }).close(); // which goes on with a migration that was cut off
      const found = contents(path);
      const isRight = found === states[done] || found === states[done + 1];
      if (!isRight) expect([killedAt, found]).toEqual([killedAt, states[done] ?? ""]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}, 180_000);
