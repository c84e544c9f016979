import { expect, test } from "bun:test";
import { statSync } from "node:fs";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { hasProc } from "../support/machine.ts";
import { Process } from "../support/process.ts";
import type { Health } from "../support/programs/soak.ts";

/** RELIABILITY_SOAK=600 goes on for ten minutes. */
const SECONDS = Number(Bun.env.RELIABILITY_SOAK ?? 15);
const PROCESSES = 4;
const MEGABYTE = 2 ** 20;

/** By how much each may grow, beside a tenth: what varies from second to second. */
const SLACK = { memory: 8, descriptors: 1, objects: 1_000, timers: 10, p50: 5, p99: 50 } as const;

test.skipIf(!hasProc)(
  "memory, descriptors, timers, latencies, the file and its log stay as they are under steady load",
  async () => {
    using folder = new Folder();
    const path = folder.file();
    open(path).close();
    await using stack = new AsyncDisposableStack();
    const processes = Array.from({ length: PROCESSES }, () => stack.use(new Process("soak", path)));
    const seconds: Health[][] = [];
    const logs: number[] = [];
    while (seconds.length < SECONDS) {
      seconds.push(await Promise.all(processes.map((process) => process.read<Health>())));
      logs.push(statSync(`${path}-wal`).size / MEGABYTE);
    }

    expect(seconds.flat().flatMap(({ errors }) => errors)).toEqual([]);
    // In the first third everything is compiled, cached and opened.
    const third = Math.floor(SECONDS / 3);
    for (const [what, slack] of Object.entries(SLACK) as [keyof typeof SLACK, number][]) {
      const [before, after] = [seconds.slice(third, 2 * third), seconds.slice(2 * third)].map((some) =>
        median(some.map((all) => all.reduce((sum, health) => sum + health[what], 0) / PROCESSES)),
      ) as [number, number];
      if (Bun.env.RELIABILITY_SOAK !== undefined) console.log(what, before, after);
      expect([what, after > before * 1.1 + slack ? [before, after] : "flat"]).toEqual([what, "flat"]);
    }
    expect(Math.max(...logs)).toBeLessThan(64); // it is emptied from 32 on
    expect(statSync(path).size / MEGABYTE).toBeLessThan(16);
  },
  120_000 + SECONDS * 2_000,
);

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
