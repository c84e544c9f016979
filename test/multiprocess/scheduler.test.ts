import { describe, expect, test } from "bun:test";

import { type Honkbun, open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

/** For when the jobs of a queue are, in milliseconds, in order. */
function dueTimes(db: Honkbun, queue: string): number[] {
  return db.sqlite
    .query<{ due: number }, [string]>("SELECT due FROM _honker_live WHERE queue = ? ORDER BY due")
    .all(queue)
    .map(({ due }) => due);
}

/** Every boundary once: as far apart as the schedule says, none missing, none double. */
function expectEachOnce(times: readonly number[], every: number): void {
  const first = times[0] as number;
  expect(times.map((time) => time - first)).toEqual(times.map((_, n) => n * every));
}

function leader(db: Honkbun): number | undefined {
  const owner = db.locks.list().find(({ name }) => name === "honkbun-scheduler")?.owner;
  return owner === undefined ? undefined : Number(owner);
}

describe("schedulers of several processes", () => {
  test("fire every boundary once, though the leader is killed every two seconds", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE, busyTimeout: "30s" });
    await using stack = new AsyncDisposableStack();
    const processes = new Map<number, Process>();
    const start = async (): Promise<void> => {
      const one = stack.use(new Process("scheduler", folder.file()));
      processes.set(one.pid, one);
      await one.read();
    };
    await Promise.all([start(), start(), start()]);
    const end = performance.now() + 30_000;
    let killed = 0;
    while (performance.now() < end) {
      await Bun.sleep(2_000);
      await eventually(() => processes.has(leader(db) ?? 0), "somebody leads");
      const victim = processes.get(leader(db) ?? 0) as Process;
      victim.kill("SIGKILL");
      await victim.exited;
      processes.delete(victim.pid);
      killed++;
      void start();
    }
    expect(killed).toBeGreaterThan(10);
    const last = dueTimes(db, "every").at(-1) as number;
    await eventually(() => (dueTimes(db, "every").at(-1) as number) > last + 2_000, "it goes on");
    for (const process of processes.values()) process.kill("SIGKILL");
    const [every, slow, cron] = ["every", "slow", "cron"].map((queue) => dueTimes(db, queue));
    expect(every?.length).toBeGreaterThan(28);
    expectEachOnce(every as number[], 1_000);
    expectEachOnce(slow as number[], 7_000);
    expectEachOnce(cron as number[], 2_000);
    expect(cron?.every((time) => time % 2_000 === 0)).toBe(true);
  }, 90_000);

  test("follow a leader within a second that was killed", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    await using first = new Process("scheduler", folder.file());
    await first.read();
    await eventually(() => leader(db) === first.pid, "the first one leads");
    await using second = new Process("scheduler", folder.file());
    await second.read();
    await Bun.sleep(300);
    first.kill("SIGKILL");
    await first.exited;
    const killedAt = performance.now();
    await eventually(() => leader(db) === second.pid, "the second one leads", 5_000);
    expect(performance.now() - killedAt).toBeLessThan(3_000); // and by half a second as a rule
  });

  test("let the process end that was stopped, and hand on at once", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    await using first = new Process("scheduler", folder.file());
    await first.read();
    await eventually(() => leader(db) === first.pid, "the first one leads");
    await using second = new Process("scheduler", folder.file());
    await second.read();
    first.kill("SIGTERM");
    expect(await first.exited).toBe(0);
    await eventually(() => leader(db) === second.pid, "the second one leads", 5_000);
  });
});
