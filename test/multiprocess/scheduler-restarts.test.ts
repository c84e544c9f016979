import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

test("a scheduler that is restarted 50 times in a minute fires each boundary once, and nothing because it starts", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
  const rows = (queue: string) =>
    db.sqlite
      .query<{ due: number; at: number }, [string]>(
        "SELECT due, created_at AS at FROM _honker_live WHERE queue = ? ORDER BY due",
      )
      .all(queue);
  const end = performance.now() + 60_000;
  for (let n = 0; n < 50; n++) {
    await using scheduler = new Process("scheduler", folder.file());
    await scheduler.read();
    await Bun.sleep(Math.max((end - performance.now()) / (50 - n) - 60, 0));
    scheduler.kill(n % 2 === 0 ? "SIGTERM" : "SIGKILL");
    await scheduler.exited;
  }
  for (const [queue, every] of [
    ["every", 1_000],
    ["cron", 2_000],
    ["slow", 7_000],
  ] as const) {
    const found = rows(queue);
    const first = found[0]?.due as number;
    expect(found.map(({ due }) => due - first)).toEqual(found.map((_, n) => n * every));
    expect(found.length).toBeGreaterThan(55_000 / every - 1);
  }
}, 120_000);
