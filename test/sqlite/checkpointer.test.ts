import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";

import { type Honkbun, open } from "../../src/index.ts";
import { describePinned } from "../../src/sqlite/long-wal.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const MEGABYTE = 1_000_000;

/** Writes so many megabytes into the WAL, in commits of a tenth. */
function write(db: Honkbun, megabytes: number): void {
  const payload = "x".repeat(MEGABYTE / 10);
  for (let commits = 0; commits < megabytes * 10; commits++) db.notify("c", payload);
}

/** Pages in the WAL, and how many of them are in the database file too. Asking copies none. */
function wal(folder: Folder): { readonly log: number; readonly checkpointed: number } {
  using asker = new Database(folder.file());
  const row = asker.query<{ log: number; checkpointed: number }, []>("PRAGMA wal_checkpoint(NOOP)").get();
  if (row === null) throw new Error("no row");
  return row;
}

describe("the WAL", () => {
  test("is left alone while it is short", () => {
    using folder = new Folder();
    using db = open(folder.file());
    write(db, 1);
    expect(wal(folder).checkpointed).toBe(0);
  });

  test("is checkpointed when it has grown, by a thread, without a further commit", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    write(db, 6);
    expect(wal(folder).log).toBeGreaterThan(1_000);
    expect(wal(folder).checkpointed).toBeLessThan(wal(folder).log); // not on this thread, before the call returns
    await eventually(() => wal(folder).log - wal(folder).checkpointed < 1_000, "most of it is checkpointed");
    expect(db.sqlite.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  });

  test("starts anew after it was long, so that it does not grow for ever", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    write(db, 40); // some 11,000 pages
    const isEmptied = (): boolean => {
      const { log, checkpointed } = wal(folder);
      return log < 8_000 || log === checkpointed; // it has started anew already, or the next writer will
    };
    await eventually(isEmptied, "all of it is checkpointed");
    db.notify("c");
    expect(wal(folder).log).toBeLessThan(8_000);
  });

  test("starts anew also beside a writer that never pauses", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    await using writer = new Process("foreign-writer", folder.file());
    const flood = writer.ask<number>({ flood: 600 });
    const commits = setInterval(() => db.notify("c"), 5); // it is after our own commits that we look at the WAL
    const size = await flood;
    clearInterval(commits);
    expect(size).toBeLessThan(500);
  }, 30_000);

  test("is told of once when it is long, and somebody keeps it from being checkpointed; and shrinks again", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    const errors: unknown[] = [];
    db.on("error", (event) => errors.push(event));
    await using reader = new Process("pinning-reader", folder.file());
    await reader.read();
    let pinnedAt = 0;
    let toldAt = 0;
    db.on("error", () => (toldAt = performance.now()));
    for (let n = 0; n < 9; n++) {
      write(db, 10);
      pinnedAt ||= performance.now(); // or later
      await Bun.sleep(5); // until it may be looked at again
    }
    await eventually(() => errors.length > 0, "it is told of");
    expect(toldAt - pinnedAt).toBeGreaterThanOrEqual(1_000); // who reads for a moment is not told of
    write(db, 1);
    await Bun.sleep(5);
    write(db, 1);
    await Bun.sleep(20);
    expect(errors).toEqual([{ error: expect.any(Error), where: "checkpoint" }]);
    expect(String((errors[0] as { error: unknown }).error)).toContain(
      `an old state of the file is read by process ${reader.pid}`,
    );
    expect(statSync(`${folder.file()}-wal`).size).toBeGreaterThan(80 * MEGABYTE);
    reader.kill();
    await reader.exited;
    await eventually(() => {
      db.notify("c");
      return statSync(`${folder.file()}-wal`).size <= 64 * MEGABYTE;
    }, "it is shorter");
  }, 60_000);

  test("is told of with the reasons, where they are known", () => {
    const told = "65.0 MB of the WAL cannot be checkpointed";
    expect(describePinned(65_000_000, [], undefined)).toBe(told);
    expect(describePinned(65_000_000, [7], undefined)).toBe(
      `${told}: an old state of the file is read by process 7`,
    );
    expect(describePinned(65_000_000, [], "disk I/O error")).toBe(`${told}: disk I/O error`);
  });

  for (const how of ["throws", "fails later"]) {
    test(`is bounded by checkpoints on this thread where a thread cannot run: it ${how}`, async () => {
      const RealWorker = globalThis.Worker;
      class BrokenWorker extends EventTarget {
        onerror: ((event: Event) => void) | undefined;
        constructor() {
          super();
          if (how === "throws") throw new Error("no threads here");
          setImmediate(() => this.onerror?.(new Event("error")));
        }
        unref(): void {}
        postMessage(): void {}
        terminate(): void {}
      }
      globalThis.Worker = BrokenWorker as never;
      try {
        using folder = new Folder();
        using db = open(folder.file());
        for (let megabytes = 0; megabytes < 24; megabytes++) {
          write(db, 1);
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(wal(folder).log).toBeLessThan(6_000); // of some 7,000 pages that were written
      } finally {
        globalThis.Worker = RealWorker;
      }
    });
  }

  test("of a handle that the application owns is checkpointed by the application's settings", () => {
    using folder = new Folder();
    using handle = new Database(folder.file());
    handle.run("PRAGMA wal_autocheckpoint = 123");
    using db = open(handle);
    db.notify("c");
    expect(handle.query("PRAGMA wal_autocheckpoint").get()).toEqual({ wal_autocheckpoint: 123 });
  });
});
