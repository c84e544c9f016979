import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Honkbun, type Job, open } from "../../src/index.ts";
import type { TestHonkbun } from "../../src/testing/test-database.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { makeHonkerFile } from "../support/honker-file.ts";
import { Honker } from "../support/honker.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const SECOND = NOW / 1_000;

/** Columns of honker's tables that it reads strictly, by the type that each must have; with `?` it may be NULL. */
const TYPES: Readonly<Record<string, string>> = {
  _honker_live:
    "id integer, queue text, payload text, state text, priority integer, run_at integer, worker_id text?, claim_expires_at integer?, attempts integer, max_attempts integer, created_at integer, expires_at integer?",
  _honker_dead:
    "id integer, queue text, payload text, priority integer, run_at integer, attempts integer, max_attempts integer, last_error text?, created_at integer, died_at integer",
  _honker_notifications: "id integer, channel text, payload text, created_at integer",
  _honker_stream: "offset integer, topic text, key text?, payload text, created_at integer",
  _honker_stream_consumers: "name text, topic text, offset integer",
  _honker_locks: "name text, owner text, expires_at integer",
  _honker_rate_limits: "name text, window_start integer, count integer",
  _honker_scheduler_tasks:
    "name text, queue text, cron_expr text, payload text, priority integer, expires_s integer?, next_fire_at integer, enabled integer, max_attempts integer",
  _honker_results: "job_id integer, value text?, created_at integer, expires_at integer?",
};

/** Rows that honker's strict reads would fail on. */
function unreadableByHonker(sqlite: Database): unknown[] {
  return Object.entries(TYPES).flatMap(([table, columns]) => {
    const wrong = columns.split(", ").map((column) => {
      const [name, type = ""] = column.split(" ");
      const types = type.endsWith("?") ? `'${type.slice(0, -1)}', 'null'` : `'${type}'`;
      return `typeof(${name}) NOT IN (${types})`;
    });
    return sqlite.query(`SELECT '${table}' AS wrong_in, * FROM ${table} WHERE ${wrong.join(" OR ")}`).all();
  });
}

describe("a file that honker made", () => {
  function opened(folder: Folder): Honkbun {
    makeHonkerFile(folder.file());
    using raw = new Database(folder.file());
    raw.run(`
      INSERT INTO _honker_live (id, queue, payload, state, priority, run_at, worker_id, claim_expires_at, attempts, max_attempts, created_at, expires_at) VALUES
        (101, 'mixed', '"urgent"', 'pending', 50, ${SECOND - 10}, NULL, NULL, 0, 3, ${SECOND - 20}, NULL),
        (102, 'mixed', '"ready"', 'pending', 0, ${SECOND - 10}, NULL, NULL, 0, 3, ${SECOND - 20}, NULL),
        (103, 'mixed', '"future"', 'pending', 99, ${SECOND + 60}, NULL, NULL, 0, 3, ${SECOND - 20}, NULL),
        (104, 'mixed', '"expired"', 'pending', 0, ${SECOND - 10}, NULL, NULL, 0, 3, ${SECOND - 20}, ${SECOND - 5}),
        (105, 'mixed', '"abandoned"', 'processing', 0, ${SECOND - 400}, 'py', ${SECOND - 100}, 1, 3, ${SECOND - 500}, NULL),
        (106, 'mixed', '"held"', 'processing', 0, ${SECOND - 400}, 'py', ${SECOND + 100}, 1, 3, ${SECOND - 500}, NULL),
        (107, 'mixed', '"used up"', 'processing', 0, ${SECOND - 400}, 'py', ${SECOND - 100}, 3, 3, ${SECOND - 500}, NULL),
        (108, 'mixed', '"used up, too"', 'pending', 0, ${SECOND - 400}, NULL, NULL, 3, 3, ${SECOND - 500}, NULL),
        (109, 'mixed', '"abandoned and expired"', 'processing', 0, ${SECOND - 400}, 'py', ${SECOND - 100}, 1, 3, ${SECOND - 500}, ${SECOND - 50});
      INSERT INTO _honker_results VALUES (110, '{"ok":1}', ${SECOND}, ${SECOND + 60}), (111, '{"ok":2}', ${SECOND - 60}, ${SECOND - 1});
      INSERT INTO _honker_scheduler_tasks VALUES
        ('often', 'backups', '@every 5s', '{}', 5, 60, ${SECOND + 5}, 1, 2), ('paused', 'backups', '*/5 * * * *', '{}', 0, NULL, ${SECOND - 500}, 0, 3);
    `);
    return open(folder.file(), { clock: () => NOW, wake: { safetyInterval: false } });
  }

  test("is understood row by row: jobs in whatever state", () => {
    using folder = new Folder();
    using db = opened(folder);
    const queue = db.queue<string>("mixed");
    expect(queue.claimBatch(10).map(({ payload, attempt }) => [payload, attempt])).toEqual([
      ["urgent", 1],
      ["abandoned", 2],
      ["ready", 1],
    ]);
    expect(queue.counts()).toEqual({
      ready: 0,
      delayed: 1,
      processing: 4,
      blocked: 0,
      completed: 0,
      dead: 4,
    });
    expect(queue.dead.list().map(({ payload, errors }) => [payload, errors.at(-1)?.message])).toEqual([
      ["expired", "expired"],
      ["used up", expect.stringContaining("the claim expired")],
      ["used up, too", "max attempts exceeded"],
      ["abandoned and expired", "expired"],
    ]);
    expect(db.queue("images").dead.list()).toMatchObject([
      { id: 4, errors: [{ message: "ValueError: no such user" }] },
    ]);
    expect(unreadableByHonker(db.sqlite)).toEqual([]);
  });

  test("is understood row by row: tasks, notifications, streams, locks, limits, schedules, results", async () => {
    using folder = new Folder();
    using db = opened(folder);
    const done: unknown[] = [];
    db.task("resize", { queue: "tasks" }, (_, job) => void done.push(job.args));
    await using worker = db.work({ scheduler: false });
    await eventually(() => done.length === 1, "the task is run");
    expect(done).toEqual([[1]]);
    await worker.stop();
    expect(db.stream("users").read()).toMatchObject([
      { offset: 1, key: "user-1", payload: { name: "signup" } },
    ]);
    expect(db.stream("users").consumers()).toEqual([{ name: "billing", offset: 1, lag: 0 }]);
    expect(db.notify("orders", 1)).toBe(3);
    expect(db.tryLock("backup")).toBeNull();
    expect(db.locks.list()).toMatchObject([{ name: "backup", owner: "python-worker" }]);
    db.sqlite.run("INSERT INTO _honker_rate_limits VALUES ('minute', ?, 4, NULL)", [SECOND]);
    expect(db.rateLimit("minute", { limit: 5, per: "1m" }).try()).toMatchObject({
      allowed: true,
      remaining: 0,
    });
    expect(db.scheduler.list()).toMatchObject([
      { name: "nightly", enabled: true },
      { name: "often", enabled: true, nextFireAt: new Date(NOW + 5_000) },
      { name: "paused", enabled: false },
    ]);
    db.sqlite.run("UPDATE sqlite_sequence SET seq = 200 WHERE name = '_honker_live'");
    const results = db.queue("any", { keepResult: true });
    expect(await results.waitResult(110)).toEqual({ ok: 1 });
    await expect(results.waitResult(111)).rejects.toThrow("kept");
    expect(unreadableByHonker(db.sqlite)).toEqual([]);
  });
});

describe("honker and honkbun on one file", () => {
  for (let seed = 1; seed <= 30; seed++) {
    test(`lose no job, and run none twice at a time, whatever they do in turns (${seed})`, async () => {
      using db = database({ file: true }); // ahead of the system's clock, which triggers ask where honker held the job
      await new Turns(db, seed).play(400);
    });
  }
});

/** Plays honker's and honkbun's operations at random, and knows who may hold what. */
class Turns {
  readonly #db: TestHonkbun;
  readonly #honker: Honker;
  readonly #random: () => number;
  readonly #known = new Set<number>();
  readonly #ended = new Set<number>();
  /** Who holds a job, and until when, in Unix seconds. */
  readonly #held = new Map<number, { readonly by: Job<unknown> | string; until: number }>();

  constructor(db: TestHonkbun, seed: number) {
    this.#db = db;
    this.#honker = new Honker(db.sqlite.filename, () => this.#now);
    let state = seed;
    this.#random = () => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
  }

  async play(count: number): Promise<void> {
    using honker = this.#honker;
    const { scheduler, sqlite } = this.#db;
    honker.schedule("theirs", "q", 40);
    scheduler.add("ours", { cron: "*/30 * * * * *", queue: "q" });
    const ours = scheduler.start();
    for (let n = 0; n < count; n++) {
      this.#turn();
      if (n % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1)); // schedules have theirs
      if (n % 50 === 0) expect(unreadableByHonker(sqlite)).toEqual([]);
    }
    await ours.stop();
    await this.#drain();
    expect(unreadableByHonker(sqlite)).toEqual([]);
    expect(sqlite.query("SELECT name, cron_expr FROM _honker_scheduler_tasks").values()).toEqual([
      ["theirs", "@every 40s"],
    ]);
  }

  get #now(): number {
    return Math.floor(this.#db.clock.now / 1_000);
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(values: Iterable<T>): T | undefined {
    const all = [...values];
    return all[this.#below(all.length)];
  }

  #turn(): void {
    const queue = this.#db.queue<unknown>("q", { backoff: { base: 5_000, jitter: 0 } });
    const honker = this.#honker;
    switch (this.#below(14)) {
      case 0:
      case 1:
        this.#known.add(
          queue.enqueue(1, {
            priority: this.#below(3),
            delay: this.#below(2) * this.#below(90_000),
            maxAttempts: 1 + this.#below(3),
            ...(this.#below(4) === 0 ? { expiresIn: 1_000 + this.#below(60_000) } : {}),
            ...(this.#below(3) === 0 ? { group: `g${this.#below(3)}` } : {}),
            ...(this.#below(6) === 0 ? { uniqueKey: `k${this.#below(3)}` } : {}),
          }),
        );
        break;
      case 2:
        this.#known.add(honker.enqueue("q", 2));
        break;
      case 3:
      case 4:
        for (const job of queue.claimBatch(1 + this.#below(3), { visibilityTimeout: "60s" }))
          this.#claimed(job.id, job, 60);
        break;
      case 5:
      case 6: {
        const worker = `honker-${this.#below(3)}`;
        for (const id of honker.claim("q", worker, 1 + this.#below(3))) this.#claimed(id, worker, 300);
        break;
      }
      case 7:
      case 8:
      case 9:
        this.#settle();
        break;
      case 10: {
        const id = this.#pick(this.#known);
        if (id === undefined) break;
        if (this.#below(2) === 0 ? honker.cancel(id) : queue.cancel(id)) this.#end(id);
        break;
      }
      case 11:
        honker.sweep("q");
        honker.tick();
        break;
      case 12: {
        const id = this.#pick(this.#known);
        if (id !== undefined) queue.update(id, { runAt: this.#db.clock.now, priority: this.#below(5) });
        break;
      }
      default:
        this.#db.clock.advance(this.#below(40_000));
    }
    for (const { id } of this.#db.sqlite.query<{ id: number }, []>("SELECT id FROM _honker_live").all())
      this.#known.add(id);
  }

  #settle(): void {
    const id = this.#pick(this.#held.keys());
    const holding = id === undefined ? undefined : this.#held.get(id);
    if (id === undefined || holding === undefined) return;
    this.#held.delete(id);
    const how = this.#below(5);
    const { by } = holding;
    if (typeof by === "string") {
      if (how === 0 && this.#honker.heartbeat(id, by)) this.#held.set(id, { by, until: this.#now + 300 });
      else if (how === 1) this.#honker.retry(id, by, this.#below(60));
      else if (how === 2) this.#honker.fail(id, by, "no");
      else if (this.#honker.ack(id, by)) this.#end(id);
      return;
    }
    try {
      if (how === 0) by.snooze(this.#below(60_000));
      else if (how === 1) by.retry();
      else if (how === 2) by.fail("no");
      else {
        by.ack();
        this.#end(id);
      }
    } catch (error) {
      expect(error).toMatchObject({ code: "HONKBUN_CLAIM_LOST" });
    }
  }

  #claimed(id: number, by: Job<unknown> | string, seconds: number): void {
    expect({ id, ended: this.#ended.has(id) }).toEqual({ id, ended: false });
    const before = this.#held.get(id);
    // Whoever held it had its time.
    if (before !== undefined) expect(before.until).toBeLessThanOrEqual(this.#now);
    this.#known.add(id);
    this.#held.set(id, { by, until: this.#now + seconds });
  }

  #end(id: number): void {
    expect({ id, ended: this.#ended.has(id) }).toEqual({ id, ended: false });
    this.#ended.add(id);
    this.#held.delete(id);
  }

  /** Lets the time of all claims and delays pass, and runs what is left: then each job has ended, and once. */
  async #drain(): Promise<void> {
    const { clock, sqlite } = this.#db;
    const queue = this.#db.queue("q");
    for (let n = 0; n < 200 && sqlite.query("SELECT 1 FROM _honker_live").get() !== null; n++) {
      clock.advance("10m");
      for (const job of queue.claimBatch(1_000)) {
        this.#claimed(job.id, job, 300);
        job.ack();
        this.#end(job.id);
      }
    }
    expect(sqlite.query("SELECT id, state FROM _honker_live").all()).toEqual([]);
    const dead = sqlite.query<{ id: number }, []>("SELECT id FROM _honker_dead").all();
    for (const { id } of dead) this.#end(id);
    expect([...this.#known].filter((id) => !this.#ended.has(id))).toEqual([]);
  }
}
