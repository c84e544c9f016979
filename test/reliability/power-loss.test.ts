import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { type Frame, framesOf } from "../support/wal.ts";
import { assertIntegrity, contents, workload, WorkloadClock } from "../support/workload.ts";

// What a file looks like after the power was lost is built from its write-ahead log: the frames up to any of them, a torn one, or one
// that never reached the disk though later ones did. The log of a commit is synced before the call returns with "full"; with "normal"
// any of its frames may be missing.

interface Recording {
  /** The database before, which no checkpoint has changed. */
  readonly database: Uint8Array;
  readonly wal: Uint8Array;
  readonly frames: readonly Frame[];
  /** After each step, the bytes of the log, and what is stored. */
  readonly acknowledged: readonly { readonly name: string; readonly end: number; readonly stored: string }[];
}

const folder = new Folder();
let files = 0;
let recording: Recording;

beforeAll(async () => {
  recording = await record();
});
afterAll(() => folder[Symbol.dispose]());

async function record(): Promise<Recording> {
  const path = folder.file("recorded.db");
  const clock = new WorkloadClock();
  await open(path, { clock: clock.read }).close(); // whose last close has left no log
  const database = readFileSync(path);
  const db = open(path, { clock: clock.read });
  const acknowledged: { name: string; end: number; stored: string }[] = [];
  for (const { name, run } of workload(db, clock)) {
    await run();
    const end = framesOf(readFileSync(`${path}-wal`)).at(-1)?.end ?? 0;
    acknowledged.push({ name, end, stored: contents(path) });
  }
  const wal = readFileSync(`${path}-wal`);
  expect(readFileSync(path).equals(database)).toBe(true);
  db.close();
  return { database, wal, frames: framesOf(wal), acknowledged };
}

/** A database and its log, as they were left. Each is a file that nobody has had open. */
function left(database: Uint8Array, wal: Uint8Array): string {
  const path = folder.file(`left-${files++}.db`);
  writeFileSync(path, database);
  writeFileSync(`${path}-wal`, wal);
  return path;
}

/** What is stored in a file that was left so, and is sound. */
function recovered(wal: Uint8Array, database: Uint8Array = recording.database): string {
  const path = left(database, wal);
  assertIntegrity(path);
  const stored = contents(path);
  for (const file of ["", "-wal", "-shm"]) rmSync(`${path}${file}`, { force: true });
  return stored;
}

/** What is stored after each commit, by where its frames end; before the first, at 0. */
function commits(): Map<number, string> {
  const found = new Map([[0, recovered(new Uint8Array())]]);
  for (const { end, isCommit } of recording.frames) {
    if (isCommit) found.set(end, recovered(recording.wal.subarray(0, end)));
  }
  return found;
}

const lastCommit = (end: number): number =>
  recording.frames.findLast((frame) => frame.isCommit && frame.end <= end)?.end ?? 0;

describe("after the power was lost", () => {
  test("nothing is missing of what was acknowledged and had reached the disk", () => {
    expect(recording.acknowledged.length).toBeGreaterThan(50);
    for (const { name, end, stored } of recording.acknowledged) {
      expect([name, recovered(recording.wal.subarray(0, end))]).toEqual([name, stored]);
    }
  });

  test("each step is there as a whole or not at all, wherever the log ends", () => {
    const states = [commits().get(0), ...recording.acknowledged.map(({ stored }) => stored)];
    for (const [end, stored] of commits()) {
      const done = recording.acknowledged.filter((step) => step.end <= end).length;
      // The steps that have ended by then, or the next one as well, which was about to.
      expect([states[done], states[done + 1]]).toContain(stored);
    }
  });

  test("what is there is what the last whole transaction left, whatever frames the log ends with", () => {
    const after = commits();
    for (const { end } of recording.frames) {
      expect(recovered(recording.wal.subarray(0, end))).toBe(after.get(lastCommit(end)) ?? "");
    }
  });

  test("a torn frame, or one that never reached the disk, undoes its transaction and all that followed", () => {
    const after = commits();
    for (const [index, { end }] of recording.frames.entries()) {
      const before = recording.frames[index - 1]?.end ?? 0;
      const expected = after.get(lastCommit(before)) ?? "";
      const torn = recording.wal.subarray(0, end - 1_000);
      expect(recovered(torn)).toBe(expected);
      if (index % 5 !== 0) continue;
      const missing = Buffer.from(recording.wal);
      missing.fill(0, end - 4_096, end);
      expect(recovered(missing)).toBe(expected);
    }
  });

  test("a checkpoint that reached the disk in part loses nothing", () => {
    const complete = recording.acknowledged.at(-1)?.stored ?? "";
    const path = left(recording.database, recording.wal);
    {
      using database = new Database(path);
      database.run("PRAGMA wal_checkpoint(PASSIVE)");
    }
    const whole = readFileSync(path);
    for (let share = 1; share < 8; share++) {
      const partly = Buffer.alloc(whole.length);
      partly.set(recording.database);
      for (let page = 0; page * 4_096 < whole.length; page++) {
        if ((page * 7 + share) % 8 < share)
          whole.copy(partly, page * 4_096, page * 4_096, (page + 1) * 4_096);
      }
      expect(recovered(recording.wal, partly)).toBe(complete);
    }
  });

  test("whoever opens the file goes on where it ended", async () => {
    for (const { end } of recording.frames.filter(({ isCommit }, index) => isCommit && index % 7 === 0)) {
      const path = left(recording.database, recording.wal.subarray(0, end));
      await using db = open(path, { clock: () => Date.UTC(2027, 0, 1), wake: { safetyInterval: false } });
      const busy = new Set(
        ["q", "keeping", "grouped", "flows"].filter((name) => db.queue(name).counts().ready > 0),
      );
      for (const name of busy) {
        const queue = db.queue(name);
        queue.resume();
        for (let jobs = queue.claimBatch(100); jobs.length > 0; jobs = queue.claimBatch(100))
          queue.ackBatch(jobs);
        expect(queue.counts()).toMatchObject({ ready: 0, processing: 0, blocked: 0 });
      }
    }
  });
});

test("with synchronous: full every commit is synced, by calls and by loops", () => {
  using db = open(folder.file("full.db"), { synchronous: "full" });
  expect(db.sqlite.query("PRAGMA synchronous").get()).toEqual({ synchronous: 2 });
  db.internals.queues.pool.readCommitted((loops) => {
    expect(loops.handle.query("PRAGMA synchronous").get()).toEqual({ synchronous: 2 });
  });
});
