import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";

import * as fc from "fast-check";

import { OpenError } from "../../src/errors.ts";
import { type Honkbun, HonkbunError, type Job, open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";
import { runs } from "../support/runs.ts";
import { contents, workload, WorkloadClock } from "../support/workload.ts";

// Files that somebody else has prepared: what is in them refuses to be opened with a clear error, or does no harm.
const { numRuns, deadline } = runs(0.075);

/** A file in which this SQL was run; `isOurs`: after honkbun had made its tables. */
function prepare(folder: Folder, sql: string, isOurs = false): string {
  if (isOurs) open(folder.file()).close();
  using db = new Database(folder.file(), { create: true });
  db.run(sql);
  return folder.file();
}

const options = { busyTimeout: "500ms", wake: { safetyInterval: false } } as const;

/** Something of each module. */
function useEach(db: Honkbun): void {
  const queue = db.queue<unknown>("q");
  queue.enqueue({ n: 1 });
  expect(queue.claimBatch(2).map((job) => [job.payload, job.ack()])).toEqual([[{ n: 1 }, undefined]]);
  queue.enqueueMany(["first", "second"], { group: "g" });
  for (const payload of ["first", "second"]) {
    const [job, ...others] = queue.claimBatch(2);
    expect([job?.payload, others]).toEqual([payload, []]);
    job?.ack();
  }
  const key = { uniqueKey: "k" };
  expect([queue.tryEnqueue(1, key).created, queue.tryEnqueue(1, key).created]).toEqual([true, false]);
  queue.claimBatch(1)[0]?.fail("no");
  expect(queue.counts()).toMatchObject({ ready: 0, dead: 1 });
  db.stream("s").publish("event");
  expect(db.stream("s").last()?.payload).toBe("event");
  db.notify("c", 1);
  db.tryLock("lock")?.release();
  expect(db.rateLimit("fixed", { limit: 1, per: "1h" }).try().allowed).toBe(true);
  expect(db.rateLimit("bucket", { limit: 1, per: "1h", algorithm: "token-bucket" }).try().allowed).toBe(true);
  db.scheduler.add("hourly", { every: "1h", queue: "scheduled" });
  db.scheduler.trigger("hourly");
}

const LIVE = `id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, payload TEXT, state TEXT NOT NULL DEFAULT 'pending',
  priority INTEGER NOT NULL DEFAULT 0, run_at INTEGER NOT NULL DEFAULT 0, worker_id TEXT, claim_expires_at INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, created_at INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER`;
const MIGRATIONS = "CREATE TABLE _honkbun_migrations (version, applied_at)";

/** Things under honkbun's and honker's names that are not theirs. */
const IMPOSTORS: Readonly<Record<string, string>> = {
  "a view as _honker_live":
    "CREATE TABLE x (id, queue, payload); CREATE VIEW _honker_live AS SELECT * FROM x",
  "a full-text table as _honker_live": "CREATE VIRTUAL TABLE _honker_live USING fts5(queue, payload)",
  "an R-tree as _honker_live": "CREATE VIRTUAL TABLE _honker_live USING rtree(id, a, b)",
  "a _honker_live without most columns":
    "CREATE TABLE _honker_live (id INTEGER PRIMARY KEY, queue TEXT, payload TEXT)",
  "a _HONKER_LIVE without most columns":
    "CREATE TABLE _HONKER_LIVE (id INTEGER PRIMARY KEY, queue TEXT, payload TEXT)",
  "a _honker_live that gives ids again": `CREATE TABLE _honker_live (${LIVE.replace("AUTOINCREMENT", "")})`,
  "a _honker_live that drops jobs in silence": `CREATE TABLE _honker_live (${LIVE.replace("queue TEXT", "queue TEXT UNIQUE ON CONFLICT REPLACE")})`,
  "a _honker_live that refuses jobs": `CREATE TABLE _honker_live (${LIVE.replace("queue TEXT", "queue TEXT UNIQUE")})`,
  "a unique index on _honker_live": `CREATE TABLE _honker_live (${LIVE}); CREATE UNIQUE INDEX x ON _honker_live(queue)`,
  "a _honker_stream that gives offsets again":
    "CREATE TABLE _honker_stream (offset INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT, payload TEXT NOT NULL, created_at INTEGER)",
  "a shadow table of full text like ours":
    "CREATE VIRTUAL TABLE _honkbun USING fts5(a); CREATE TABLE x (a); INSERT INTO _honkbun VALUES ('text')",
  "a _honkbun_queues of other columns": "CREATE TABLE _honkbun_queues (foo)",
  "a view as _honkbun_queues": "CREATE VIEW _honkbun_queues AS SELECT 1 AS name",
  "a _honkbun_errors of other columns": "CREATE TABLE _honkbun_errors (unexpected INTEGER)",
  "a _honkbun_migrations of other columns": "CREATE TABLE _honkbun_migrations (foo)",
  "a view as _honkbun_migrations": "CREATE VIEW _honkbun_migrations AS SELECT 1 AS version",
  "an empty _honkbun_migrations": MIGRATIONS,
  "a version in words": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES ('many', 1)`,
  "a version as BLOB": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (x'ff', 1)`,
  "a negative version": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (-5, 1)`,
  "a fractional version": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (2.5, 1)`,
  "a version that no number holds": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (9223372036854775807, 1)`,
  "a version, but no tables": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (4, 1)`,
  "an older version, but no tables": `${MIGRATIONS}; INSERT INTO _honkbun_migrations VALUES (2, 1)`,
  "migrations that are refused": `${MIGRATIONS};
    CREATE TRIGGER t AFTER INSERT ON _honkbun_migrations BEGIN SELECT RAISE(ABORT, 'no'); END`,
  "an index of ours on another table": "CREATE TABLE x (a); CREATE INDEX _honkbun_live_claim ON x(a)",
  "the index of unique keys on another table":
    "CREATE TABLE x (a); CREATE INDEX _honkbun_live_unique ON x(a)",
  "a view like ours": "CREATE VIEW honkbun_jobs AS SELECT 1",
  "a table like a view of ours": "CREATE TABLE honkbun_queues (a)",
  "a trigger of ours on another table":
    "CREATE TABLE x (a); CREATE TRIGGER _honkbun_live_ended AFTER DELETE ON x BEGIN SELECT 1; END",
  "a count of ids in words":
    "CREATE TABLE x (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO sqlite_sequence VALUES ('_honker_live', 'many')",
  "statistics that are nonsense": `CREATE TABLE x (a); CREATE INDEX xi ON x(a); ANALYZE; DELETE FROM sqlite_stat1;
    INSERT INTO sqlite_stat1 VALUES ('_honker_live', '_honkbun_live_claim', 'nonsense'),
      ('_honker_live', '_honkbun_live_claim', '1 -1 99999999999999999999'), (NULL, x'ff', NULL)`,
  "a view of a table that is not there": "CREATE VIEW v AS SELECT * FROM missing",
  "a trigger that names what is not there":
    "CREATE TABLE x (a); CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT missing FROM nowhere; END",
};

describe("a file with", () => {
  test.each(Object.entries(IMPOSTORS))("%s is refused as it is, or does no harm", (_, sql) => {
    using folder = new Folder();
    const path = prepare(folder, sql);
    const before = contents(path);
    const bytes = readFileSync(path);
    let db: Honkbun;
    try {
      db = open(path, options);
    } catch (error) {
      expect(error).toBeInstanceOf(OpenError);
      expect((error as Error).message).toContain(path);
      expect(contents(path)).toBe(before);
      // Some are found to be no good only when they are migrated, in a transaction.
      if ((error as OpenError).code === "HONKBUN_OPEN_DAMAGED") {
        expect(readFileSync(path).equals(bytes)).toBe(true);
      }
      return;
    }
    try {
      useEach(db);
    } finally {
      db.close();
    }
  });

  test.each([
    "DROP TABLE _honkbun_handles",
    "DROP VIEW honkbun_jobs; DROP VIEW honkbun_queues; DROP TABLE _honker_notifications",
    "ALTER TABLE _honkbun_errors RENAME COLUMN stack TO trace",
  ])("tables of ours, and then %s, is refused", (sql) => {
    using folder = new Folder();
    expect(() => open(prepare(folder, sql, true), options).close()).toThrow(OpenError);
  });

  test.each([
    ["a trigger of ours dropped", "DROP TRIGGER _honkbun_live_ended"],
    ["an index of ours dropped", "DROP INDEX _honkbun_live_unique"],
    [
      "a trigger of somebody's",
      "CREATE TRIGGER t AFTER INSERT ON _honker_live BEGIN DELETE FROM _honker_live; END",
    ],
    [
      "a trigger of ours with another body",
      "DROP TRIGGER _honkbun_live_ended; CREATE TRIGGER _honkbun_live_ended AFTER DELETE ON _honker_live BEGIN SELECT 1; END",
    ],
    ["a view of ours with another body", "DROP VIEW honkbun_dead; CREATE VIEW honkbun_dead AS SELECT 1"],
  ])("%s is opened, and check() tells of it", (_, sql) => {
    using folder = new Folder();
    using db = open(prepare(folder, sql, true), options);
    expect(db.check().findings.map(({ kind }) => kind)).toContain(
      sql.startsWith("CREATE TRIGGER") ? "trigger" : "schema",
    );
  });
});

const FORMATS: Readonly<Record<string, string>> = {
  "pages of 512 bytes": "PRAGMA page_size = 512",
  "pages of 64 KB": "PRAGMA page_size = 65536",
  "text in UTF-16": "PRAGMA encoding = 'UTF-16le'",
  "text in UTF-16, big-endian": "PRAGMA encoding = 'UTF-16be'",
  "full auto_vacuum": "PRAGMA auto_vacuum = FULL",
  "incremental auto_vacuum": "PRAGMA auto_vacuum = INCREMENTAL",
  "an application_id and a user_version": "PRAGMA application_id = 123; PRAGMA user_version = -1",
};

test("a file of another format stores the same, and keeps its format", async () => {
  const run = async (sql: string): Promise<unknown[]> => {
    using folder = new Folder();
    const clock = new WorkloadClock();
    using db = open(prepare(folder, `${sql}; CREATE TABLE x (a)`), { clock: clock.read });
    for (const step of workload(db, clock)) await step.run();
    const settings = ["page_size", "encoding", "auto_vacuum", "application_id", "user_version"];
    const format = settings.map((name) => db.sqlite.query(`PRAGMA ${name}`).values()[0]?.[0]);
    return [contents(folder.file()), format];
  };
  const [expected, usual] = await run("");
  for (const [what, sql] of Object.entries(FORMATS)) {
    const [stored, format] = await run(sql);
    expect([what, stored]).toEqual([what, expected]);
    expect(format).not.toEqual(usual);
  }
}, 30_000);

test(
  "a damaged first page is refused by an error of the library's, or does no harm",
  () => {
    using folder = new Folder();
    const path = prepare(folder, "INSERT INTO _honker_live (queue, payload) VALUES ('q', '1')", true);
    using copy = new Database(path);
    copy.run("PRAGMA wal_checkpoint(TRUNCATE)");
    const whole = readFileSync(path);
    const flips = fc.array(fc.tuple(fc.nat({ max: 4_095 }), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    let runs = 0;
    void fc.assert(
      fc.property(flips, (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, change] of changes) bytes[at] = (bytes[at] ?? 0) ^ change;
        const damaged = folder.file(`${runs++}.db`);
        writeFileSync(damaged, bytes);
        try {
          using db = open(damaged, options);
          try {
            db.queue("q").claimBatch(1)[0]?.ack();
            db.check();
          } catch {} // SQLite tells of damage where it finds it
        } catch (error) {
          expect(error).toBeInstanceOf(HonkbunError);
        }
      }),
      { numRuns },
    );
  },
  deadline,
);

describe("a trigger that has writes ignored", () => {
  const ignoring = (event: string): string =>
    `CREATE TRIGGER t BEFORE ${event} BEGIN SELECT RAISE(IGNORE); END`;

  test.each([
    "INSERT ON _honker_live",
    "UPDATE OF state ON _honker_live",
    "DELETE ON _honker_live",
    "INSERT ON _honker_stream",
    "UPDATE ON _honkbun_schedules",
  ])("has the file refused: BEFORE %s", (event) => {
    using folder = new Folder();
    const path = prepare(folder, ignoring(event), true);
    expect(() => open(path, options)).toThrow("RAISE(IGNORE)");
  });

  test("has the file refused however it is spelt, and is not taken for its own words", () => {
    using folder = new Folder();
    open(folder.file()).close();
    const trigger = (body: string): string =>
      `DROP TRIGGER IF EXISTS t; CREATE TRIGGER t BEFORE INSERT ON _HONKER_LIVE BEGIN ${body}; END`;
    for (const body of ["SELECT RAISE/**/(IGNORE)", "SELECT raise -- so\n (/*x*/ignore)"]) {
      prepare(folder, trigger(body));
      expect(() => open(folder.file(), options)).toThrow("RAISE(IGNORE)");
    }
    for (const body of [
      "SELECT 'never raise(ignore) here'",
      'SELECT 1 AS "raise(ignore)"',
      "SELECT 1 /* raise(ignore) */",
    ]) {
      prepare(folder, trigger(body));
      open(folder.file(), options).close();
    }
  });

  const sends: Record<string, [string, (db: Honkbun) => unknown]> = {
    enqueue: ["_honker_live", (db) => db.queue("q").enqueue(1)],
    enqueueMany: ["_honker_live", (db) => db.queue("q").enqueueMany([1, 2])],
    "enqueueMany of many": ["_honker_live", (db) => db.queue("q").enqueueMany(Array(100).fill(1))],
    enqueueAsync: ["_honker_live", (db) => db.queue("q").enqueueAsync(1)],
    "enqueue to a group": ["_honker_live", (db) => db.queue("q").enqueue(1, { group: "g" })],
    "enqueue with a key": ["_honker_live", (db) => db.queue("q").enqueue(1, { uniqueKey: "k" })],
    publish: ["_honker_stream", (db) => db.stream("s").publish(1)],
    publishMany: ["_honker_stream", (db) => db.stream("s").publishMany(Array(100).fill(1))],
    notify: ["_honker_notifications", (db) => db.notify("c", 1)],
  };
  test.each(Object.entries(sends))(
    "and comes once the file is open, has the sender told: %s",
    async (_, [table, send]) => {
      using folder = new Folder();
      using db = open(folder.file(), options);
      prepare(folder, ignoring(`INSERT ON ${table}`));
      const error: unknown = await Promise.try(() => send(db)).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "HONKBUN_NOT_STORED" });
    },
  );

  const calls: Record<string, [string, (db: Honkbun, job: Job<unknown>) => unknown]> = {
    seek: ["INSERT ON _honker_stream_consumers", (db) => db.stream("s").seek("c", 1)],
    trim: ["DELETE ON _honker_stream", (db) => db.stream("s").trim({ maxCount: 0 })],
    "dead.retry": ["INSERT ON _honker_live", (db) => db.queue("dead").dead.retry("all")],
    fail: ["INSERT ON _honker_dead", (_, job) => job.fail("no")],
    "scheduler.add": [
      "INSERT ON _honkbun_schedules",
      (db) => db.scheduler.add("n", { every: "1h", queue: "q" }),
    ],
    "enqueue with the key of a job that has begun": [
      "UPDATE OF unique_key ON _honker_live",
      (db) => db.queue("q").enqueue(2, { uniqueKey: "k", uniqueUntil: "start" }),
    ],
  };
  test.each(Object.entries(calls))(
    "and comes once the file is open, has the caller told: %s",
    (_, [event, call]) => {
      using folder = new Folder();
      using db = open(folder.file(), options);
      db.queue("dead").enqueue(1);
      db.queue("dead").claimBatch(1)[0]?.fail("no");
      db.queue("q").enqueue(1, { uniqueKey: "k", uniqueUntil: "start" });
      const [job] = db.queue("q").claimBatch(1) as [Job<unknown>];
      db.stream("s").publish(1);
      prepare(folder, ignoring(event));
      const before = contents(folder.file());
      let error: unknown;
      try {
        call(db, job);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ code: "HONKBUN_NOT_STORED" });
      expect(contents(folder.file())).toBe(before);
    },
  );

  test("and comes once the file is open, has no loop go on without pause", async () => {
    using folder = new Folder();
    using db = open(folder.file(), options);
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const stream = db.stream("s");
    stream.publish(1);
    db.sqlite.run(ignoring("INSERT ON _honker_stream_consumers"));
    let handled = 0;
    const running = stream.process("c", () => void handled++);
    await eventually(() => errors.length > 0, "it is told");
    await Bun.sleep(100);
    void running.stop();
    expect(handled).toBe(1);
    expect(errors).toMatchObject([{ code: "HONKBUN_NOT_STORED" }]);
  });

  test("and comes once the file is open, has no call go on for ever", async () => {
    using folder = new Folder();
    await using claimer = new Process("undeleted-claimer", folder.file());
    expect(await claimer.read()).toEqual(["HONKBUN_NOT_STORED", "HONKBUN_NOT_STORED", []]);
  });
});

test.each([
  ["DROP TABLE _honker_dead"],
  ["CREATE TRIGGER t BEFORE INSERT ON _honker_live BEGIN SELECT RAISE(IGNORE); END"],
  ["CREATE TEMP TABLE _honker_live (x)"],
])("a database in memory is refused as well: %s", (sql) => {
  using handle = new Database(":memory:");
  open(handle).close();
  handle.run(sql);
  expect(() => open(handle)).toThrow(OpenError);
});

test("a trigger that does what a burial is to do is not taken for one that has it ignored", () => {
  using folder = new Folder();
  using db = open(folder.file(), options);
  db.sqlite.run(
    "CREATE TRIGGER t AFTER INSERT ON _honker_dead BEGIN DELETE FROM _honker_live WHERE id = new.id; END",
  );
  const queue = db.queue("q");
  queue.enqueue(1);
  queue.claimBatch(1)[0]?.fail("no");
  expect(queue.counts()).toMatchObject({ processing: 0, dead: 1 });
});

test("a handle with temporary tables that hide none of ours is taken", () => {
  using folder = new Folder();
  using handle = new Database(folder.file());
  handle.run("CREATE TEMP TABLE honking_geese (a); CREATE INDEX temp.idx_honk ON honking_geese(a)");
  using db = open(handle, options);
  expect(db.queue("q").enqueue(1)).toBe(1);
});

test.each([
  ["CREATE TEMP TABLE _honker_live AS SELECT * FROM main._honker_live"],
  ["CREATE TEMP VIEW _honker_live AS SELECT 1 AS id"],
])("a handle that hides a table of ours by a temporary one is refused, or stores in the file: %s", (sql) => {
  using folder = new Folder();
  open(folder.file()).close();
  using handle = new Database(folder.file());
  handle.run(sql);
  let db: Honkbun;
  try {
    db = open(handle, options);
  } catch (error) {
    expect(error).toBeInstanceOf(HonkbunError);
    return;
  }
  try {
    db.queue("q").enqueue(1);
    expect(handle.query("SELECT count(*) AS n FROM main._honker_live").get()).toEqual({ n: 1 });
  } finally {
    db.close();
  }
});
