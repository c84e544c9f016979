import type { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Lock, open } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

describe("a lock that many processes want", () => {
  test("has one holder at a time with ascending tokens, and each of 50 processes gets it, though holders are killed", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE, busyTimeout: "30s" });
    const { sqlite } = db;
    sqlite.run("CREATE TABLE holdings (id INTEGER PRIMARY KEY, pid INTEGER, token INTEGER)");
    await using stack = new AsyncDisposableStack();
    const failures: unknown[] = [];
    const processes = new Map<number, Process>();
    const start = (): void => {
      const one = stack.use(new Process("lock-holder", folder.file(), folder.file("witness")));
      processes.set(one.pid, one);
      void (async () => {
        for (;;) {
          const line = await one.next();
          if (line === undefined) return;
          if (line !== "ready") failures.push(line);
        }
      })();
    };
    for (let n = 0; n < 50; n++) start();
    const first = [...processes.keys()];
    const holdings = () =>
      sqlite.query<{ pid: number; token: number }, []>("SELECT pid, token FROM holdings ORDER BY id").all();
    const holder = (): number | undefined => {
      const pid = db.locks.list()[0]?.owner;
      return pid === undefined ? undefined : Number(pid);
    };
    await eventually(() => holdings().length > 0, "the first one holds it", 60_000);
    const killed = new Set<number>();
    for (let n = 0; n < 8; n++) {
      await Bun.sleep(100 + Math.random() * 200);
      const pid = holder();
      const victim = pid === undefined ? undefined : processes.get(pid);
      if (pid === undefined || victim === undefined || killed.has(pid)) continue;
      const before = holdings().length;
      victim.kill("SIGKILL");
      killed.add(pid);
      start();
      await eventually(() => holdings().length > before + 1, "the next one holds it", 10_000);
    }
    expect(killed.size).toBeGreaterThan(3);
    const survivors = [...processes.keys()].filter((pid) => !killed.has(pid));
    const from = holdings().length;
    await eventually(
      () =>
        new Set(
          holdings()
            .slice(from)
            .map(({ pid }) => pid),
        ).size === survivors.length,
      "each has had it once more",
      60_000,
    );
    const tokens = holdings().map(({ token }) => token);
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    expect(new Set(tokens).size).toBe(tokens.length);
    expect(failures).toEqual([]);
    expect(first).toHaveLength(50);
    // In a line nobody comes twice before the others have come once, but for those who died or have just begun.
    const late = holdings()
      .slice(from)
      .map(({ pid }) => pid)
      .slice(0, survivors.length);
    expect(new Set(late).size).toBeGreaterThan(survivors.length - 5);
  }, 150_000);

  test("is free within a second when its holder was killed, for one who waits and for one who tries", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    db.sqlite.run("CREATE TABLE holdings (id INTEGER PRIMARY KEY, pid INTEGER, token INTEGER)");
    for (const how of ["waits", "tries"]) {
      await using holder = new Process("lock-keeper", folder.file(), "l", how === "waits" ? "try" : "lock");
      const token = await holder.read<number>();
      expect(db.tryLock("l")).toBeNull();
      const waiting = how === "waits" ? db.lock("l") : undefined;
      await Bun.sleep(500); // it is looked at, and lives
      expect(db.locks.list()).toMatchObject([{ token }]);
      holder.kill("SIGKILL");
      await holder.exited;
      const killedAt = performance.now();
      const lock = waiting === undefined ? db.tryLock("l") : await within(waiting, "it is free", 5_000);
      expect(lock?.token).toBeGreaterThan(token);
      expect(performance.now() - killedAt).toBeLessThan(3_000);
      lock?.release();
    }
  });

  test("is not given to one who waited and has died", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const first = db.tryLock("l") as Lock;
    await using waiter = new Process("lock-keeper", folder.file(), "l");
    await eventually(() => inLine(db.sqlite) === 1, "it stands in line");
    const second = db.lock("l");
    await eventually(() => inLine(db.sqlite) === 2, "both stand in line");
    waiter.kill("SIGKILL");
    await waiter.exited;
    first.release();
    using lock = await within(second, "it is served", 5_000);
    expect(inLine(db.sqlite)).toBe(0);
    expect(lock.token).toBeGreaterThan(first.token);
  });

  test("does not keep the process alive that holds it, and is free when that has ended", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    await using holder = new Process("lock-keeper", folder.file(), "l", "idle");
    await holder.read();
    expect(await within(holder.exited, "it ends by itself")).toBe(0);
    expect(db.tryLock("l")).not.toBeNull();
  });
});

describe("a rate limit of several processes", () => {
  test("is exact for all of them together", async () => {
    using folder = new Folder();
    open(folder.file()).close();
    await using stack = new AsyncDisposableStack();
    const members = Array.from({ length: 4 }, () => stack.use(new Process("rate-limited", folder.file())));
    await Promise.all(members.map((one) => one.read()));
    const counts = await Promise.all(members.map((one) => one.ask<{ fixed: number; bucket: number }>("go")));
    const sum = (pick: (one: { fixed: number; bucket: number }) => number): number =>
      counts.reduce((total, one) => total + pick(one), 0);
    expect(sum(({ fixed }) => fixed)).toBe(500);
    expect(sum(({ bucket }) => bucket)).toBe(500);
    expect(counts.filter(({ fixed }) => fixed > 0).length).toBeGreaterThan(1);
  });
});

function inLine(sqlite: Database): number {
  return sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honkbun_lock_waiters").get()?.n ?? 0;
}
