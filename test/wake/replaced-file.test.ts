import { describe, expect, test } from "bun:test";
import { copyFileSync, renameSync, unlinkSync } from "node:fs";

import { HonkbunError, open } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const REPLACED = { code: "HONKBUN_FILE_REPLACED" };

/** How people and restore tools take a database away from under a program. */
const WAYS: Record<string, (folder: Folder) => void> = {
  "another file is moved over the database": (folder) => {
    copyFileSync(folder.file(), folder.file("backup.db"));
    unlinkSync(`${folder.file()}-wal`);
    renameSync(folder.file("backup.db"), folder.file());
  },
  "the WAL is deleted": (folder) => unlinkSync(`${folder.file()}-wal`),
};

for (const [way, replace] of Object.entries(WAYS)) {
  describe(`when ${way}`, () => {
    test("everybody who waits is told", async () => {
      using folder = new Folder();
      using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
      const errors: unknown[] = [];
      using _ = db.on("error", ({ error }) => void errors.push(error));
      using __ = db.listen("c", () => {});
      const notification = db.listen("c").next();
      const job = db.queue("q").claim().next();
      await eventually(() => db.stats().wake.events > 0, "the watch is confirmed");
      replace(folder);
      expect(await within(rejection(notification), "the listener ends")).toMatchObject(REPLACED);
      expect(await within(rejection(job), "the claim loop ends")).toMatchObject(REPLACED);
      expect(errors).toMatchObject([REPLACED]);
    });

    test("sends are refused instead of being lost in a file without a name", async () => {
      using folder = new Folder();
      using db = open(folder.file(), { wake: { safetyInterval: "5ms" } });
      const errors: unknown[] = [];
      using _ = db.on("error", ({ error }) => void errors.push(error));
      using __ = db.listen("c", () => {});
      replace(folder);
      await eventually(() => errors.length > 0, "it is noticed");
      expect(() => db.notify("c")).toThrow(HonkbunError);
      expect(() => db.queue("q").enqueue(1)).toThrow("was replaced or removed");
      expect(() => db.transaction(() => {})).toThrow("was replaced or removed");
      expect(() => db.listen("c")).toThrow("was replaced or removed");
      expect(() => db.queue("q").claim()).toThrow("was replaced or removed");
    });
  });
}

test("a sender that waits for nothing notices as well", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  WAYS["the WAL is deleted"]?.(folder);
  await eventually(() => {
    try {
      db.notify("c");
      return false;
    } catch (error) {
      expect(error).toMatchObject(REPLACED);
      return true;
    }
  }, "a send is refused");
});

test("not one send goes into a file that was taken away, though SQLite would take it", () => {
  using folder = new Folder();
  using db = open(folder.file());
  db.queue("q").enqueue(1);
  for (const suffix of ["", "-wal", "-shm"]) unlinkSync(folder.file() + suffix);
  using other = open(folder.file()); // takes longer than a send trusts the last check
  expect(() => db.queue("q").enqueue(2)).toThrow(expect.objectContaining(REPLACED));
  expect(other.queue("q").claimBatch(9)).toEqual([]);
});

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it resolved");
}
