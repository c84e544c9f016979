import { describe, expect, test } from "bun:test";

import { type Honkbun, open } from "../../src/index.ts";
import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

/** Programs that know SQLite and nothing of honkbun: each runs SQL, and gives back what the last query selects. */
const PROGRAMS: Readonly<Record<string, (file: string, sql: string) => string[]>> = {
  sqlite3: (file, sql) => ["sqlite3", "-cmd", ".timeout 5000", "-json", file, sql],
  python3: (file, sql) => [
    "python3",
    "-c",
    `import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=5)
db.row_factory = sqlite3.Row
rows = []
for statement in sys.argv[2].split(";\\n"):
    rows = [dict(row) for row in db.execute(statement).fetchall()]
db.commit()
print(json.dumps(rows))`,
    file,
    sql,
  ],
};

async function run(program: string, file: string, sql: string): Promise<unknown[]> {
  const child = Bun.spawn(PROGRAMS[program]?.(file, sql) ?? [], { stdout: "pipe", stderr: "pipe" });
  const [out, errors, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ code, errors }).toEqual({ code: 0, errors: "" });
  return out.trim() === "" ? [] : (JSON.parse(out) as unknown[]);
}

function start(folder: Folder): Honkbun {
  return open(folder.file(), { wake: WAKE });
}

for (const program of Object.keys(PROGRAMS)) {
  // Where tests are what a change depends on, the programs are there.
  describe.skipIf(Bun.which(program) === null && Bun.env.CI === undefined)(
    `a program with nothing but ${program}`,
    () => {
      const sql = (folder: Folder, text: string): Promise<unknown[]> => run(program, folder.file(), text);

      test("enqueues a job, and the worker wakes", async () => {
        using folder = new Folder();
        using db = start(folder);
        const queue = db.queue<{ to: string }>("emails");
        const next = queue.claim().next();
        await sql(
          folder,
          `INSERT INTO _honker_live (queue, payload) VALUES ('emails', '{"to":"alice@example.com"}')`,
        );
        const { value: job } = await within(next, "the worker wakes");
        expect(job).toMatchObject({
          payload: { to: "alice@example.com" },
          priority: 0,
          attempt: 1,
          maxAttempts: 3,
        });
      });

      test("enqueues a job for later, with a priority and attempts, and the worker wakes when it is due", async () => {
        using folder = new Folder();
        using db = start(folder);
        const queue = db.queue("emails");
        const source = queue.claim();
        await sql(
          folder,
          `INSERT INTO _honker_live (queue, payload, run_at, priority, max_attempts)
         VALUES ('emails', '1', unixepoch() + 2, 5, 9)`,
        );
        expect(queue.counts()).toMatchObject({ delayed: 1, ready: 0 });
        const { value: job } = await within(source.next(), "it is due");
        expect(job).toMatchObject({ payload: 1, priority: 5, maxAttempts: 9 });
        expect(Date.now()).toBeGreaterThanOrEqual(queue.get(job.id)?.runAt.getTime() ?? 0);
      });

      test("notifies a listener, and publishes to a stream", async () => {
        using folder = new Folder();
        using db = start(folder);
        const heard = db.listen("users").next();
        const seen = db.stream("orders").subscribe({ from: "end" }).next();
        await sql(
          folder,
          `INSERT INTO _honker_notifications (channel, payload) VALUES ('users', '{"id":1}');
INSERT INTO _honker_stream (topic, key, payload) VALUES ('orders', 'alice', '{"total":5}')`,
        );
        expect((await within(heard, "it is heard")).value).toMatchObject({
          channel: "users",
          payload: { id: 1 },
        });
        expect((await within(seen, "it is seen")).value).toMatchObject({
          key: "alice",
          payload: { total: 5 },
        });
      });

      test("enqueues in one transaction with its own row, or not at all", async () => {
        using folder = new Folder();
        using db = start(folder);
        db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT UNIQUE)");
        db.sqlite.run("INSERT INTO orders (customer) VALUES ('bob')");
        const place = (customer: string): Promise<unknown[]> =>
          sql(
            folder,
            `BEGIN IMMEDIATE;
INSERT INTO _honker_live (queue, payload) VALUES ('emails', json_object('to', '${customer}'));
INSERT INTO orders (customer) VALUES ('${customer}');
COMMIT`,
          );
        await place("alice");
        await expect(place("bob")).rejects.toThrow();
        expect(
          db
            .queue("emails")
            .list()
            .map(({ payload }) => payload),
        ).toEqual([{ to: "alice" }]);
      });

      test("reads jobs, dead letters, queues, streams and schedules from views", async () => {
        using folder = new Folder();
        using db = start(folder);
        const queue = db.queue("q", { maxAttempts: 1 });
        const runAt = new Date("2100-01-01T00:00:00.250Z");
        queue.enqueue({ n: 1 }, { runAt, priority: 2, uniqueKey: "k" });
        queue.enqueue(2, { group: "g" });
        queue.enqueue(3, { group: "g" });
        queue.enqueue(4);
        const [two, four] = queue.claimBatch("me", 2);
        two?.progress({ percent: 50 });
        four?.fail(new Error("no such address"));
        const kept = db.queue("kept", { keepResult: true });
        kept.enqueue(5);
        kept.claimBatch(1)[0]?.ack();
        db.queue("idle").pause();
        db.stream("orders").publishMany([1, 2, 3]);
        db.stream("orders").seek("audit", 2);
        db.scheduler.add("nightly", {
          cron: "0 2 * * *",
          timezone: "Europe/Berlin",
          queue: "q",
          payload: { a: 1 },
        });
        db.scheduler.add("often", { every: "90s", queue: "q" });
        db.scheduler.pause("often");

        const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        expect(
          await sql(
            folder,
            "SELECT id, queue, state, payload, priority, attempts, run_at, worker, progress FROM honkbun_jobs ORDER BY id",
          ),
        ).toEqual([
          {
            id: 1,
            queue: "q",
            state: "delayed",
            payload: '{"n":1}',
            priority: 2,
            attempts: 0,
            run_at: "2100-01-01T00:00:00.250Z",
            worker: null,
            progress: null,
          },
          {
            id: 2,
            queue: "q",
            state: "processing",
            payload: "2",
            priority: 0,
            attempts: 1,
            run_at: time,
            worker: expect.stringMatching(/^me~/),
            progress: '{"percent":50}',
          },
          {
            id: 3,
            queue: "q",
            state: "blocked",
            payload: "3",
            priority: 0,
            attempts: 0,
            run_at: time,
            worker: null,
            progress: null,
          },
          {
            id: 5,
            queue: "kept",
            state: "completed",
            payload: "5",
            priority: 0,
            attempts: 1,
            run_at: time,
            worker: null,
            progress: null,
          },
        ]);
        expect(
          await sql(
            folder,
            "SELECT enqueued_at, claim_expires_at, completed_at, group_key, unique_key FROM honkbun_jobs ORDER BY id",
          ),
        ).toEqual([
          { enqueued_at: time, claim_expires_at: null, completed_at: null, group_key: null, unique_key: "k" },
          { enqueued_at: time, claim_expires_at: time, completed_at: null, group_key: "g", unique_key: null },
          { enqueued_at: time, claim_expires_at: null, completed_at: null, group_key: "g", unique_key: null },
          {
            enqueued_at: time,
            claim_expires_at: null,
            completed_at: time,
            group_key: null,
            unique_key: null,
          },
        ]);
        expect(await sql(folder, "SELECT * FROM honkbun_dead")).toEqual([
          {
            id: 4,
            queue: "q",
            payload: "4",
            priority: 0,
            attempts: 1,
            max_attempts: 1,
            error: "no such address",
            enqueued_at: time,
            died_at: time,
          },
        ]);
        const none = {
          paused: 0,
          ready: 0,
          delayed: 0,
          processing: 0,
          blocked: 0,
          completed: 0,
          dead: 0,
          oldest_ready_at: null,
        };
        expect(await sql(folder, "SELECT * FROM honkbun_queues ORDER BY queue")).toEqual([
          { queue: "idle", ...none, paused: 1 },
          { queue: "kept", ...none, completed: 1 },
          { queue: "q", ...none, delayed: 1, processing: 1, blocked: 1, dead: 1 },
        ]);
        expect(await sql(folder, "SELECT * FROM honkbun_streams")).toEqual([
          {
            topic: "orders",
            events: 3,
            first_offset: 1,
            last_offset: 3,
            last_at: time,
            consumers: '{"audit":2}',
          },
        ]);
        expect(await sql(folder, "SELECT * FROM honkbun_schedules ORDER BY name")).toEqual([
          {
            name: "nightly",
            enabled: 1,
            next_fire_at: time,
            cron: "0 2 * * *",
            timezone: "Europe/Berlin",
            every_seconds: null,
            queue: "q",
            payload: '{"a":1}',
            made_by: "honkbun",
          },
          {
            name: "often",
            enabled: 0,
            next_fire_at: null,
            cron: null,
            timezone: null,
            every_seconds: 90,
            queue: "q",
            payload: "null",
            made_by: "honkbun",
          },
        ]);
      });

      test("counts in views what the API counts", async () => {
        using folder = new Folder();
        using db = start(folder);
        const queue = db.queue<number>("q", { keepResult: true });
        queue.enqueueMany(
          Array.from({ length: 40 }, (_, n) => n),
          (n) => ({
            ...(n % 5 === 0 ? { delay: "1h" } : {}),
            ...(n % 3 === 0 ? { group: `g${n % 2}` } : {}),
          }),
        );
        for (const job of queue.claimBatch(10)) {
          if (job.payload % 3 === 1) job.ack();
          else if (job.payload % 3 === 2) job.fail("no");
        }
        const [row] = await sql(
          folder,
          "SELECT ready, delayed, processing, blocked, completed, dead FROM honkbun_queues",
        );
        expect(row).toEqual({ ...queue.counts() });
      });
    },
  );
}
