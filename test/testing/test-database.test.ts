import { describe, expect, setSystemTime, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";

import { testDatabase } from "../../src/testing/index.ts";
import { Folder } from "../support/folder.ts";

/** Prints where its database is, and ends. */
const PROGRAM = `
  import { testDatabase } from ${JSON.stringify(resolve(import.meta.dir, "../../src/testing/index.ts"))};
  const db = testDatabase({ file: true });
  db.queue("q").enqueue(1);
  process.stdout.write(db.sqlite.filename);
  process.exit();
`;

describe("testDatabase", () => {
  test("is fresh at each call", () => {
    using one = testDatabase();
    using two = testDatabase();
    one.queue("q").enqueue(1);
    expect(two.queue("q").claimBatch(1)).toEqual([]);
    expect(one.sqlite.filename).toBe(":memory:");
  });

  test("has a file on request, whose folder goes when it is closed", () => {
    const db = testDatabase({ file: true });
    const folder = dirname(db.sqlite.filename);
    expect(existsSync(folder)).toBe(true);
    db.close();
    db.close();
    expect(existsSync(folder)).toBe(false);
  });

  test("in a file is gone when the process ends that has not closed it", async () => {
    const child = Bun.spawn([process.execPath, "-e", PROGRAM], { stdout: "pipe", stderr: "inherit" });
    const [file, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect(code).toBe(0);
    expect(file).toEndWith("test.db");
    expect(existsSync(dirname(file))).toBe(false);
  });

  test("in a file is gone some time later when its process could not see to it", async () => {
    using folder = new Folder();
    const dead = Bun.spawnSync(["true"]).pid;
    const name = (pid: number, n: number): string => folder.file(`honkbun-testing-${pid}-${n}`);
    const old = new Date(Date.now() - 7_200_000);
    for (const path of [name(dead, 1), name(process.pid, 2), name(dead, 3)]) {
      mkdirSync(path);
      writeFileSync(`${path}/test.db`, "");
      if (path !== name(dead, 3)) utimesSync(path, old, old);
    }
    const child = Bun.spawn([process.execPath, "-e", PROGRAM], {
      stdout: "pipe",
      stderr: "inherit",
      env: { ...process.env, TMPDIR: folder.path },
    });
    expect(await child.exited).toBe(0);
    expect(readdirSync(folder.path).sort()).toEqual(
      [name(process.pid, 2), name(dead, 3)].map((path) => basename(path)).sort(),
    );
  });

  test("goes by what setSystemTime says when it is made, and stands still from then on", () => {
    const now = new Date("2040-01-01T00:00:00Z");
    setSystemTime(now);
    using db = testDatabase();
    setSystemTime();
    expect(db.clock.now).toBe(now.getTime());
    expect(db.queue("q").get(db.queue("q").enqueue(1))?.enqueuedAt).toEqual(now);
  });

  test("refuses options that it does not know", () => {
    expect(() => testDatabase({ files: true } as never)).toThrow("testDatabase: unknown option files");
    expect(() => testDatabase({ file: "x" as never })).toThrow(TypeError);
    expect(() => testDatabase({ now: 5 as never })).toThrow(TypeError);
  });

  test("has a clock that stands still until it is moved", () => {
    const now = new Date("2030-01-01T00:00:00Z");
    using db = testDatabase({ now });
    expect(db.clock.now).toBe(now.getTime());
    db.queue("q").enqueue("tomorrow", { delay: "1d" });
    db.clock.advance("23h");
    expect(db.queue("q").claimBatch(1)).toEqual([]);
    db.clock.set(new Date("2030-01-02T00:00:00Z"));
    expect(db.queue("q").claimBatch(1)).toMatchObject([{ payload: "tomorrow", enqueuedAt: now }]);
  });

  test("wakes those who wait for what has come due", async () => {
    using db = testDatabase();
    db.queue("q").enqueue(1, { delay: "1d" });
    const next = db.queue("q").claim().next();
    await new Promise((resolve) => setImmediate(resolve));
    expect(Bun.peek.status(next)).toBe("pending");
    db.clock.advance("1d");
    expect((await next).value.attempt).toBe(1);
  });

  test("starts at the system's time", () => {
    const before = Date.now();
    using db = testDatabase();
    expect(db.clock.now).toBeWithin(before, Date.now() + 1);
  });
});
