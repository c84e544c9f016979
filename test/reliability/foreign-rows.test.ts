import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";

import * as fc from "fast-check";

import { open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { makeFile, useAll } from "../support/foreign-rows.ts";
import { Process } from "../support/process.ts";
import { runs } from "../support/runs.ts";

// Rows as another program, or somebody at the sqlite3 shell, may write them: any value in any column.
const { numRuns, deadline } = runs(0.075);

const VALUES = [
  "NULL",
  "''",
  "'words'",
  "'{oops'",
  `'{"a":1}'`,
  "x'ff00'",
  "CAST(x'ff' AS TEXT)",
  "CAST(x'610062' AS TEXT)",
  "0",
  "0.5",
  "-5",
  "1e300",
  "9e999",
  "9000000000000",
  "-9223372036854775808",
] as const;
const UNSAFE = ["9007199254740993", "9223372036854775807"] as const;

const FILE = await makeFile();

/** What these say is read before anything else, or has somebody stand still and say so: tests of their own tell of it. */
const APART = new Set([
  "_honkbun_migrations.*",
  "_honkbun_queues.*",
  "_honkbun_stream_groups.offset",
  "_honker_stream_consumers.offset",
]);

function columns(): [string, string][] {
  using db = open(":memory:");
  const all = db.sqlite
    .query<{ at: string; name: string }, []>(
      `SELECT tables.name AS at, columns.name FROM sqlite_schema AS tables, pragma_table_xinfo(tables.name) AS columns
       WHERE tables.type = 'table' AND tables.name GLOB '_honk*' AND columns.hidden = 0`,
    )
    .all();
  return all
    .filter(({ at, name }) => !APART.has(`${at}.*`) && !APART.has(`${at}.${name}`))
    .map(({ at, name }) => [at, name]);
}

/** Changes one row of the table: of jobs the one that may be spoilt, else any. */
function spoil(path: string, table: string, column: string, value: string): void {
  using db = new Database(path);
  const where = table === "_honker_live" ? `WHERE payload = '"spoilt"' OR queue = 'held'` : "";
  try {
    db.run(`UPDATE OR REPLACE ${table} SET ${column} = ${value} ${where}`);
  } catch {} // which the table itself refuses
}

async function complaints(change: (path: string) => void): Promise<string[]> {
  using folder = new Folder();
  writeFileSync(folder.file(), FILE);
  change(folder.file());
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  return await useAll(db);
}

test("a file in which nothing is spoilt has everything run", async () => {
  expect(await complaints(() => {})).toEqual([]);
});

test(
  "a value of whatever type in any column stops nothing else, and is told by errors that say so",
  async () => {
    const cell = fc.tuple(fc.constantFrom(...columns()), fc.constantFrom(...VALUES));
    await fc.assert(
      fc.asyncProperty(fc.array(cell, { minLength: 1, maxLength: 2 }), async (cells) => {
        const found = await complaints((path) => {
          for (const [[table, column], value] of cells) spoil(path, table, column, value);
        });
        expect(found).toEqual([]);
      }),
      { numRuns },
    );
  },
  deadline,
);

test(
  "jobs of random columns stop no others",
  async () => {
    const value = fc.constantFrom(...VALUES);
    const state = fc.constantFrom("pending", "processing", "blocked", "waiting", "joining", "nonsense");
    const names = [
      "payload",
      "priority",
      "run_at",
      "worker_id",
      "claim_expires_at",
      "attempts",
      "max_attempts",
      "expires_at",
    ];
    const own = [
      "due_ms",
      "group_key",
      "group_seq",
      "turn_ms",
      "unique_key",
      "keep_result",
      "is_awaited",
      "has_history",
    ];
    const column = fc.constantFrom(...names, ...own);
    const job = fc.tuple(state, fc.dictionary(column, value, { maxKeys: 6 }));
    await fc.assert(
      fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 30 }), async (jobs) => {
        const found = await complaints((path) => {
          using db = new Database(path);
          for (const [as, { payload = "'1'", ...others }] of jobs) {
            const [given, values] = [Object.keys(others), Object.values(others)];
            try {
              db.run(
                `INSERT INTO _honker_live (${["queue", "state", "payload", ...given].join(", ")})
               VALUES (${["'q'", `'${as}'`, payload, ...values].join(", ")})`,
              );
            } catch {} // which the table itself refuses
          }
        });
        expect(found).toEqual([]);
      }),
      { numRuns: Math.ceil(numRuns / 5) },
    );
  },
  deadline,
);

describe("a row with an id that no number holds", () => {
  test.each(UNSAFE)("is never taken for that of another: what comes after it is refused (%s)", async (id) => {
    using db = database();
    db.sqlite.run(`INSERT INTO _honker_live (id, queue, payload) VALUES (${id}, 'q', '"foreign"')`);
    db.sqlite.run(`INSERT INTO _honker_stream (offset, topic, payload) VALUES (${id}, 's', '1')`);
    db.sqlite.run(`INSERT INTO _honker_notifications (id, channel, payload) VALUES (${id}, 'c', '1')`);
    const [queue, stream] = [db.queue("q"), db.stream("s")];
    const sends: (() => unknown)[] = [
      () => queue.enqueue(1),
      () => queue.enqueueMany([1, 2]),
      () => queue.enqueueMany(Array(100).fill(1)),
      () => queue.enqueueAsync(1),
      () => queue.enqueue(1, { group: "g" }),
      () => stream.publish(1),
      () => stream.publishMany(Array(100).fill(1)),
      () => db.notify("c", 1),
      () => db.transaction(() => queue.enqueue(1)),
    ];
    for (const send of sends) {
      const error: unknown = await Promise.try(send).catch((thrown: unknown) => thrown);
      // Of the largest of all SQLite says so itself.
      expect((error as { code?: unknown }).code).toBe(
        id === UNSAFE[0] ? "HONKBUN_NOT_STORED" : "SQLITE_FULL",
      );
    }
    const count = (table: string): unknown =>
      db.sqlite.query(`SELECT count(*) FROM ${table}`).values()[0]?.[0];
    expect(["_honker_live", "_honker_stream", "_honker_notifications"].map(count)).toEqual([1, 1, 1]);
    expect(queue.claimBatch(9)).toEqual([]); // which buries it
    // As the error says.
    db.sqlite.run("DELETE FROM _honker_dead");
    db.sqlite.run("UPDATE sqlite_sequence SET seq = 5 WHERE name = '_honker_live'");
    expect(queue.enqueueMany([1, 2])).toEqual([6, 7]);
    expect(queue.claimBatch(9).map((job) => job.id)).toEqual([6, 7]);
  });

  test.each(["expired", "out of attempts", "dependent"])(
    "has no claim go on for ever: %s",
    async (kind) => {
      using folder = new Folder();
      await using claimer = new Process("foreign-row-claimer", folder.file(), kind);
      expect(await Promise.race([claimer.read(), Bun.sleep(5_000)])).toEqual(["good"]);
    },
    20_000,
  );
});

describe("a queue's row with what is no limit", () => {
  for (const column of [
    "concurrency",
    "rate_limit",
    "rate_per",
    "keep_completed_age",
    "keep_completed_count",
    "keep_dead_age",
    "keep_dead_count",
  ]) {
    test.each(["'words'", "x'ff'", "0.5"])(
      `lets the queue's jobs run all the same: ${column} = %s`,
      async (value) => {
        using db = database({ file: true });
        const queue = db.queue("q");
        const kept = { maxAge: "1h", maxCount: 10 } as const;
        queue.setLimits({
          concurrency: 5,
          rate: { limit: 100, per: "1s" },
          keepCompleted: kept,
          keepDead: kept,
        });
        db.sqlite.run(`UPDATE _honkbun_queues SET ${column} = ${value}`);
        queue.enqueue(1);
        let ran = 0;
        const worker = queue.work(() => void ran++);
        await eventually(() => ran === 1, "it is run", 1_000).finally(() => worker.stop({ timeout: 0 }));
      },
    );
  }
});

test.each([
  ["_honker_dead", "died_at"],
  ["_honkbun_completed", "completed_at"],
  ["_honker_locks", "expires_at"],
])("a time that is none has nobody look without pause: %s.%s", async (table, column) => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = db.queue("q");
  queue.setLimits({ keepDead: { maxAge: "1h" }, keepCompleted: { maxAge: "1h" } });
  queue.enqueueMany([1, 2]);
  const [one, other] = queue.claimBatch(2);
  one?.fail("no");
  other?.ack();
  db.tryLock("lock", { ttl: "1h" });
  db.sqlite.run(`UPDATE ${table} SET ${column} = 'words'`);
  const worker = queue.work(() => {});
  const waiting = db.lock("lock", { timeout: "400ms" }).catch(() => {});
  await Bun.sleep(50);
  const before = process.cpuUsage();
  await Bun.sleep(300);
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1_000).toBeLessThan(150); // a loop takes a core
  await worker.stop({ timeout: 0 });
  await waiting;
});

describe("an event with a BLOB", () => {
  test.each(["payload", "key", "created_at"])(
    "as %s does not keep a group from those after it",
    async (column) => {
      using db = database({ file: true });
      const stream = db.stream("s");
      stream.publish("before");
      db.sqlite.run(`UPDATE _honker_stream SET ${column} = x'ff'`);
      stream.publish("after");
      const seen: unknown[] = [];
      const running = stream.group("g").work(({ payload }) => void seen.push(payload), { maxDeliveries: 1 });
      await eventually(() => seen.includes("after"), "it is delivered", 1_000).finally(() =>
        running.stop({ timeout: 0 }),
      );
    },
  );
});

describe("a consumer whose offset is no number", () => {
  test("is told of it, and not left without events in silence", async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const stream = db.stream("s");
    stream.publish("event");
    stream.seek("c", "start");
    db.sqlite.run("UPDATE _honker_stream_consumers SET offset = 'words'");
    const seen: unknown[] = [];
    const running = stream.process("c", ({ payload }) => void seen.push(payload));
    running.stopped.catch(() => {});
    await eventually(() => errors.length > 0, "it is told of").finally(() => running.stop().catch(() => {}));
    expect(String(errors[0])).toContain("consumer c of s: what is stored as its offset is none");
    expect(seen).toEqual([]);
  });

  test("is told of it, also a group", async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    const stream = db.stream("s");
    const seen: unknown[] = [];
    const first = stream.group("g").work(({ payload }) => void seen.push(payload));
    await first.stop();
    db.sqlite.run("UPDATE _honkbun_stream_groups SET offset = 'words'");
    stream.publish("event");
    const running = stream.group("g").work(({ payload }) => void seen.push(payload));
    await eventually(() => errors.length > 0, "it is told of").finally(() => running.stop({ timeout: 0 }));
    expect(String(errors[0])).toContain("group g of s: what is stored as its offset is none");
    expect(seen).toEqual([]);
  });
});

describe("a schedule of honker's", () => {
  test.each([
    ["cron_expr = x'ff'", 0],
    ["name = NULL", 1],
  ])("with %s is told of once at most, and fires no more often than it should", async (change, most) => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const errors: unknown[] = [];
    db.on("error", ({ error }) => void errors.push(error));
    db.sqlite.run(
      `INSERT INTO _honker_scheduler_tasks (name, queue, cron_expr, payload, next_fire_at)
       VALUES ('n', 'q', '@every 1h', '1', unixepoch() - 1)`,
    );
    db.sqlite.run(`UPDATE _honker_scheduler_tasks SET ${change}`);
    const running = db.scheduler.start();
    await Bun.sleep(200);
    await running.stop();
    expect(db.queue("q").counts().ready).toBeLessThanOrEqual(most);
    expect(errors.length).toBeLessThanOrEqual(1);
  });
});
