import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";

import { checkWal } from "../../src/check/wal-check.ts";
import { type Finding, open } from "../../src/index.ts";
import { Connection } from "../../src/sqlite/connection.ts";
import { readersOf } from "../../src/sqlite/long-wal.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";
import { contents, workload, WorkloadClock } from "../support/workload.ts";

const kinds = (findings: readonly Finding[]): string[] => findings.map(({ kind }) => kind);

describe("check", () => {
  test("finds nothing in a new file, in memory, and in one that has seen a bit of everything", async () => {
    using memory = database();
    expect(memory.check()).toEqual({ findings: [], wal: null });
    using folder = new Folder();
    const clock = new WorkloadClock(Date.now());
    using db = open(folder.file(), { clock: clock.read });
    expect(db.check()).toMatchObject({ findings: [], wal: { pendingBytes: 0 } });
    for (const { run } of workload(db, clock)) await run();
    // What was claimed there, and never settled, has a holder, and is not overdue.
    expect(db.check().findings).toEqual([]);
  });

  test("changes nothing that is stored", () => {
    using db = database({ file: true });
    db.queue("q").enqueueMany([1, 2, 3]);
    const before = contents(db.sqlite.filename);
    db.check();
    expect(contents(db.sqlite.filename)).toBe(before);
  });

  test("may be called inside a transaction, of which it sees nothing", () => {
    using db = database({ file: true });
    db.transaction(() => {
      db.sqlite.run("CREATE TRIGGER mine AFTER INSERT ON _honker_live BEGIN SELECT 1; END");
      expect(db.check().findings).toEqual([]);
    });
    expect(kinds(db.check().findings)).toEqual(["trigger"]);
  });

  test("tells of triggers on its tables that are not its own", () => {
    using db = database({ file: true });
    db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    db.sqlite.run("CREATE TRIGGER elsewhere AFTER INSERT ON orders BEGIN SELECT 1; END");
    db.capture.add("orders", { into: { stream: "changes" } });
    expect(db.check().findings).toEqual([]);
    db.sqlite.run("CREATE TRIGGER _honkbun_mine AFTER INSERT ON _HONKER_live BEGIN SELECT 1; END");
    expect(db.check().findings).toMatchObject([
      { kind: "trigger", message: expect.stringContaining("_honkbun_mine on _honker_live") },
    ]);
  });

  test.each([
    ["DROP INDEX _honkbun_live_claim", "the index _honkbun_live_claim is missing"],
    ["DROP TRIGGER _honkbun_live_ended", "the trigger _honkbun_live_ended is missing"],
    ["DROP VIEW honkbun_jobs", "the view honkbun_jobs is missing"],
    ["DROP TABLE _honkbun_errors", "the table _honkbun_errors is missing"],
    ["ALTER TABLE _honkbun_queues RENAME COLUMN paused TO stopped", "the table _honkbun_queues lacks paused"],
    [
      "DROP TABLE _honkbun_unique_windows; CREATE TABLE _honkbun_unique_windows (queue, unique_key, job_id, until)",
      "the table _honkbun_unique_windows is not as honkbun made it",
    ],
    [
      "DROP INDEX _honkbun_live_claim; CREATE INDEX _honkbun_live_claim ON _honker_live(queue)",
      "the index _honkbun_live_claim is not as honkbun made it",
    ],
  ])("tells of a schema that was changed by hand: %s", (sql, message) => {
    using folder = new Folder();
    using db = open(folder.file());
    db.sqlite.run("PRAGMA legacy_alter_table = ON"); // else SQLite looks at the views first
    db.sqlite.run(sql);
    expect(db.check().findings).toContainEqual({ kind: "schema", message, advice: expect.any(String) });
  });

  test("finds nothing wrong with tables that honker has created in its own words", () => {
    using folder = new Folder();
    {
      using other = new Database(folder.file());
      other.run(`CREATE TABLE _honker_live (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, payload TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending', priority INTEGER NOT NULL DEFAULT 0, run_at INTEGER NOT NULL DEFAULT (unixepoch()),
        worker_id TEXT, claim_expires_at INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL DEFAULT 3, created_at INTEGER NOT NULL DEFAULT (unixepoch()), expires_at INTEGER)`);
    }
    using db = open(folder.file());
    expect(db.check().findings).toEqual([]);
  });

  test("tells who keeps the WAL from shrinking, and that it is large", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    await using reader = new Process("pinning-reader", folder.file());
    await reader.read();
    const text = "x".repeat(1_000_000);
    for (let n = 0; n < 20; n++) db.queue("q").enqueue(text);
    const { findings, wal } = db.check();
    expect(findings).toMatchObject([
      { kind: "reader", message: expect.stringContaining(`process ${reader.pid}`) },
    ]);
    expect(wal?.pendingBytes).toBeGreaterThan(16_000_000);
    for (let n = 0; n < 60; n++) db.queue("q").enqueue(text);
    expect(kinds(db.check().findings)).toEqual(["reader", "wal"]);
    reader.kill();
    await reader.exited;
    await eventually(() => db.check().wal?.pendingBytes === 0, "the WAL is checkpointed");
    expect(kinds(db.check().findings)).toEqual(["wal"]);
    db.sqlite.query("PRAGMA wal_checkpoint(TRUNCATE)").get();
    expect(db.check()).toMatchObject({ findings: [], wal: { bytes: 0 } });
  });

  test("blames no reader for what another checkpoint has yet to do", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    await using reader = new Process("pinning-reader", folder.file());
    await reader.read();
    await using writer = new Process("sql-runner", folder.file());
    await writer.read();
    await writer.ask("CREATE TABLE large AS SELECT zeroblob(20000000)");
    await writer.ask("BEGIN IMMEDIATE"); // which reads as well
    await using checkpoint = new Process("sql-runner", folder.file());
    await checkpoint.read();
    await checkpoint.ask("PRAGMA busy_timeout = 30000");
    checkpoint.write("PRAGMA wal_checkpoint(FULL)"); // it waits for the writer
    await eventually(() => {
      const asked = db.sqlite.query<{ busy: number }, []>("PRAGMA wal_checkpoint(PASSIVE)").get();
      return asked?.busy === 1;
    }, "it checkpoints");
    reader.kill();
    await reader.exited;
    const { findings, wal } = db.check();
    expect(findings).toEqual([]);
    expect(wal?.pendingBytes).toBeGreaterThan(16_000_000);
  });

  test("blames no reader who ends while it looks", async () => {
    using folder = new Folder();
    open(folder.file()).close();
    await using reader = new Process("pinning-reader", folder.file());
    await reader.read();
    using handle = new Database(folder.file());
    handle.run("CREATE TABLE large AS SELECT zeroblob(20000000)");
    const connection = new Connection(handle, false);
    const prepare = connection.prepare.bind(connection);
    let looks = 0;
    connection.prepare = (sql) => {
      if (sql.includes("PASSIVE") && ++looks === 3) {
        reader.kill();
        for (let n = 0; n < 10_000 && readersOf(folder.file()).length > 0; n++) Bun.sleepSync(1);
      }
      return prepare(sql);
    };
    expect(checkWal(connection, folder.file())).toMatchObject({ findings: [], wal: { pendingBytes: 0 } });
    expect(looks).toBe(3);
  });

  test("tells of jobs that nobody sees to", () => {
    using db = database({ file: true });
    const queue = db.queue("q", { visibilityTimeout: "10s", maxAttempts: 1 });
    queue.enqueueMany([1, 2]);
    queue.enqueue(3, { expiresIn: "10s" });
    queue.claimBatch(1);
    expect(db.check().findings).toEqual([]);
    db.clock.advance("2m");
    expect(db.check().findings).toMatchObject([
      { kind: "stuck-jobs", message: "1 of q were claimed, and the claim has expired" },
      { kind: "stuck-jobs", message: "1 of q have expired" },
    ]);
    queue.ackBatch(queue.claimBatch(5)); // which frees them
    expect(db.check().findings).toEqual([]);
    const stored = db.sqlite.prepare(
      "INSERT INTO _honker_live (id, queue, payload, state, attempts, claim_expires_at, group_key, group_seq) VALUES (?, 'odd', '1', ?, ?, ?, ?, ?)",
    );
    stored.run(null, "processing", 1, null, null, null);
    stored.run(null, "waiting", 0, null, null, null);
    stored.run(null, "blocked", 0, null, "g", 5);
    stored.run(-(2n ** 63n), "pending", 0, null, null, null);
    expect(db.check().findings.map(({ message }) => message)).toEqual([
      "1 of odd were claimed, and the claim has expired",
      "1 of odd wait for others that have ended",
      "1 of odd wait for their group, in which nothing runs",
      "1 of odd have ids beyond 2^53",
    ]);
  });

  test("tells of claims whose process is gone", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    db.queue("q").enqueueMany([1, 2]);
    const holder = new Process("holder", folder.file(), "q");
    await holder.read();
    expect(db.check().findings).toEqual([]);
    holder.kill();
    await holder.exited;
    expect(db.check().findings).toMatchObject([
      { kind: "orphaned-claims", message: expect.stringContaining(`process ${holder.pid}, which is gone`) },
    ]);
    await using _ = db.queue("other").work(() => {});
    await eventually(() => db.check().findings.length === 0, "a worker frees them");
  });

  test("tells of rows from the future", () => {
    using db = database({ file: true });
    const now = Math.floor(db.clock.now / 1_000);
    db.sqlite.run("INSERT INTO _honker_notifications (channel, payload, created_at) VALUES ('c', '1', ?)", [
      now + 30,
    ]);
    expect(db.check().findings).toEqual([]);
    db.sqlite.run("INSERT INTO _honker_notifications (channel, payload, created_at) VALUES ('c', '1', ?)", [
      now + 3_600,
    ]);
    expect(db.check().findings).toMatchObject([
      { kind: "clock", message: expect.stringContaining("3600 s ahead of this clock") },
    ]);
  });

  test("finds nothing in what busy workers leave, nor in one large commit of its own", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    const errors: unknown[] = [];
    db.on("error", (event) => errors.push(event));
    const text = "x".repeat(1_000_000);
    db.queue("large").enqueueMany(Array.from({ length: 80 }, () => text));
    await eventually(() => db.check().wal?.pendingBytes === 0, "it is checkpointed");
    expect(errors).toEqual([]);
    db.queue("large").clear();
    db.queue("q").enqueueMany(Array.from({ length: 20_000 }, (_, n) => n));
    await using worker = db.queue("q").work(() => {});
    while (db.queue("q").counts().ready > 0) {
      expect(db.check().findings.filter(({ kind }) => kind !== "wal")).toEqual([]);
      await Bun.sleep(10);
    }
    await worker.stop();
  }, 30_000);

  test("tells of rows that break a constraint, which is no damage, and of a file whose collations it does not know", () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.sqlite.run("CREATE TABLE orders (total INTEGER CHECK (total > 0))");
    db.sqlite.run("PRAGMA ignore_check_constraints = ON");
    db.sqlite.run("INSERT INTO orders VALUES (-1)");
    expect(db.check().findings).toMatchObject([
      {
        kind: "integrity",
        message: "CHECK constraint failed in orders",
        advice: expect.stringContaining("whole"),
      },
    ]);
    db.sqlite.run("DROP TABLE orders");
    const script = `import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
connection.execute("CREATE TABLE names (name TEXT COLLATE mine UNIQUE)")
connection.execute("INSERT INTO names VALUES ('a'), ('b')")
connection.commit()`;
    expect(Bun.spawnSync(["python3", "-c", script, folder.file()]).exitCode).toBe(0);
    expect(() => db.sqlite.query("PRAGMA integrity_check").get()).toThrow("collation");
    expect(db.check().findings).toEqual([]);
  });

  test("passes over virtual tables of the application's whose module is not there", () => {
    using folder = new Folder();
    using db = open(folder.file());
    const script = `import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA writable_schema = ON")
connection.execute("INSERT INTO sqlite_schema VALUES ('table', 'odd', 'odd', 0, 'CREATE VIRTUAL TABLE odd USING nobody_has_this(x)')")
connection.commit()`;
    expect(Bun.spawnSync(["python3", "-c", script, folder.file()]).exitCode).toBe(0);
    using other = open(folder.file());
    expect(other.check().findings).toEqual([]);
    expect(db.check().findings).toEqual([]);
  });

  test("throws for a file that is no longer there", () => {
    using folder = new Folder();
    using db = open(folder.file());
    rmSync(folder.file());
    expect(() => db.check()).toThrow(expect.objectContaining({ code: "HONKBUN_FILE_REPLACED" }));
  });

  test("tells of a damaged file", async () => {
    using folder = new Folder();
    {
      await using db = open(folder.file());
      db.queue("q").enqueueMany(Array.from({ length: 2_000 }, (_, n) => `payload ${n}`));
    }
    const bytes = readFileSync(folder.file());
    const copy = folder.file("copy.db");
    writeFileSync(copy, bytes);
    const file = openSync(copy, "r+");
    // Pages of rows, behind those of the schema.
    const last = bytes.length / 4_096 - 1;
    for (let page = last - 10; page < last; page++)
      writeSync(file, Buffer.alloc(4_000, 7), 0, 4_000, page * 4_096 + 50);
    await using db = open(copy);
    const { findings } = db.check();
    expect(findings.length).toBeGreaterThan(0);
    expect(new Set(kinds(findings))).toEqual(new Set(["integrity"]));
  });
});
