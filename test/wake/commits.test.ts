import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { relative } from "node:path";

import { type Honkbun, open, type OpenOptions } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

/** Nothing but file events may make these pass. */
const WATCH_ONLY: OpenOptions = { wake: { safetyInterval: false, mode: "watch" } };
const COMMITS = 200;

let folder: Folder;
beforeEach(() => {
  folder = new Folder();
});
afterEach(() => folder[Symbol.dispose]());

/** Has the other process commit again and again, each time only after the last commit was seen: none is seen by the next. */
async function expectEachSeen(db: Honkbun, writer: Process, count: number, size = 0): Promise<void> {
  let seen = 0;
  using _ = db.listen("c", () => {
    seen++;
  });
  for (let sent = 1; sent <= count; sent++) {
    await writer.ask({ notify: "c", size });
    await eventually(() => seen === sent, `commit ${sent} of another process is seen`);
  }
}

describe("a commit of another process is seen without a further commit", () => {
  for (const kind of ["foreign-writer", "own-writer"]) {
    for (const synchronous of ["normal", "full"]) {
      test(`${kind}, synchronous ${synchronous}`, async () => {
        using db = open(folder.file(), WATCH_ONLY);
        await using writer = new Process(kind, folder.file(), synchronous);
        await expectEachSeen(db, writer, COMMITS);
      }, 60_000);

      test(`${kind}, synchronous ${synchronous}, 300 kB payloads`, async () => {
        using db = open(folder.file(), WATCH_ONLY);
        await using writer = new Process(kind, folder.file(), synchronous);
        await expectEachSeen(db, writer, COMMITS, 300_000);
      }, 60_000);
    }
  }

  test("after checkpoints that reset the WAL", async () => {
    using db = open(folder.file(), WATCH_ONLY);
    await using writer = new Process("foreign-writer", folder.file());
    for (const mode of ["PASSIVE", "RESTART", "TRUNCATE"]) {
      await expectEachSeen(db, writer, 5);
      await writer.ask({ once: `PRAGMA wal_checkpoint(${mode})` });
      await expectEachSeen(db, writer, 5);
    }
  });

  test("by a process that closes after each, the last of the others", async () => {
    using db = open(folder.file(), WATCH_ONLY);
    let seen = 0;
    using _ = db.listen("c", () => {
      seen++;
    });
    await using writer = new Process("foreign-writer", folder.file());
    for (let sent = 1; sent <= 20; sent++) {
      await writer.ask({ once: "INSERT INTO _honker_notifications (channel, payload) VALUES ('c', 'null')" });
      await eventually(() => seen === sent, `commit ${sent} is seen`);
    }
  });

  test("on a file that was opened through a symbolic link", async () => {
    open(folder.file("real.db")).close();
    symlinkSync(folder.file("real.db"), folder.file("link.db"));
    using db = open(folder.file("link.db"), WATCH_ONLY);
    await using writer = new Process("foreign-writer", folder.file("real.db"));
    await expectEachSeen(db, writer, 10);
  });

  test("after the working directory has changed", async () => {
    const before = process.cwd();
    using db = open(relative(before, folder.file()), WATCH_ONLY);
    try {
      process.chdir("/");
      await using writer = new Process("foreign-writer", folder.file());
      await expectEachSeen(db, writer, 10);
    } finally {
      process.chdir(before);
    }
  });

  test("by two listeners and a claim loop of one process", async () => {
    using db = open(folder.file(), WATCH_ONLY);
    await using writer = new Process("foreign-writer", folder.file());
    let first = 0;
    let second = 0;
    using _ = db.listen("c", () => {
      first++;
    });
    using __ = db.listen(["c", "other"], () => {
      second++;
    });
    const jobs = db.queue<number>("q").claim();
    for (let sent = 1; sent <= 50; sent++) {
      const next = jobs.next();
      await writer.ask({ notify: "c" });
      await eventually(() => first === sent && second === sent, `commit ${sent} is seen by both`);
      await writer.ask({ sql: [`INSERT INTO _honker_live (queue, payload) VALUES ('q', '${sent}')`] });
      const { value: job } = await within(next, `job ${sent} is claimed`);
      expect(job.payload).toBe(sent);
      job.ack();
    }
  });

  test("when polling, where nothing can be watched", async () => {
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "poll" } });
    await using writer = new Process("foreign-writer", folder.file());
    await expectEachSeen(db, writer, 20);
    expect(db.stats().wake.events).toBe(0);
  });
});

describe("a rolled-back send of another process", () => {
  for (const kind of ["foreign-writer", "own-writer"]) {
    test(`is seen by nobody: ${kind}`, async () => {
      using db = open(folder.file(), WATCH_ONLY);
      await using writer = new Process(kind, folder.file());
      const seen: unknown[] = [];
      using _ = db.listen(["c", "end"], (notification) => void seen.push(notification.channel));
      const jobs = db.queue<unknown>("c").claim();
      const next = jobs.next();
      await writer.ask(
        kind === "own-writer"
          ? { rollBack: "c" }
          : {
              sql: [
                "INSERT INTO _honker_notifications (channel, payload) VALUES ('c', 'null')",
                "INSERT INTO _honker_live (queue, payload) VALUES ('c', 'null')",
                "ROLLBACK",
              ],
            },
      );
      await writer.ask({ notify: "end" });
      await eventually(() => seen.length > 0, "the commit after it is seen");
      expect(seen).toEqual(["end"]);
      await jobs.return?.();
      expect((await next).done).toBe(true);
    });
  }
});
