import { Database } from "bun:sqlite";

import type { Honkbun } from "../../src/index.ts";

/** What the clock shows when the workload begins, in epoch milliseconds. */
const START = Date.UTC(2026, 0, 1);

/** A clock that only the workload moves. */
export class WorkloadClock {
  #now: number;

  constructor(start: number = START) {
    this.#now = start;
  }

  readonly read = (): number => this.#now;

  advance(milliseconds: number): void {
    this.#now += milliseconds;
  }
}

/** One call, or a few that take effect together: what is stored when it has returned is what it stands for. */
export interface Step {
  readonly name: string;
  readonly run: () => unknown;
}

/** Something of each module, step by step, the same each time. */
export function workload(db: Honkbun, clock: WorkloadClock): Step[] {
  const options = { maxAttempts: 2, backoff: { type: "fixed", base: "1m", jitter: 0 } } as const;
  const queue = db.queue<unknown, unknown>("q", options);
  const keeping = db.queue<unknown, number>("keeping", { keepResult: true });
  const grouped = db.queue("grouped");
  const flows = db.queue("flows");
  const events = db.stream<unknown>("events");
  const steady = db.rateLimit("steady", { limit: 10, per: "1m", algorithm: "token-bucket" });
  const fixed = db.rateLimit("fixed", { limit: 10, per: "1m" });
  let parent = 0;
  const one = (name: string): ReturnType<typeof queue.claimBatch>[number] => {
    const [job] = db.queue<unknown, unknown>(name, options).claimBatch(1);
    if (job === undefined) throw new Error(`there is no job in ${name}`);
    return job;
  };
  const id = (payload: string): number =>
    queue.list({ state: "delayed", limit: 100 }).find((info) => info.payload === payload)?.id ?? 0;
  let job: ReturnType<typeof one> | undefined;
  let jobs: ReturnType<typeof queue.claimBatch> = [];
  let lock: ReturnType<typeof db.tryLock> = null;
  return [
    step("a table of the application's", () =>
      db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)"),
    ),
    step("enqueue", () => queue.enqueue({ n: 1 })),
    step("enqueue with options", () =>
      queue.enqueue("urgent", { priority: 10, delay: "1s", expiresIn: "1h", maxAttempts: 5 }),
    ),
    step("enqueueMany", () =>
      queue.enqueueMany(Array.from({ length: 40 }, (_, n) => ({ n, text: "x".repeat(n * 10) }))),
    ),
    step("enqueueAsync", () => queue.enqueueAsync("async")),
    step("enqueue with a unique key", () => queue.enqueue("first", { uniqueKey: "k", uniqueFor: "1h" })),
    step("replace by a unique key", () =>
      queue.enqueue("second", { uniqueKey: "k", onDuplicate: "replace" }),
    ),
    step("enqueue a large payload", () => queue.enqueue("large ".repeat(4_000))),
    step("a transaction with the application's rows", () =>
      db.transaction(() => {
        db.sqlite.run("INSERT INTO orders (total) VALUES (10)");
        queue.enqueue("order 1");
        events.publish({ order: 1 });
        db.notify("orders", 1);
      }),
    ),
    step("a transaction that is rolled back", () => {
      try {
        db.transaction(() => {
          db.sqlite.run("INSERT INTO orders (total) VALUES (20)");
          queue.enqueue("order 2");
          throw new Error("no");
        });
      } catch {}
    }),
    step("claim", () => {
      job = one("q");
    }),
    step("progress", () => job?.progress({ percent: 50 })),
    step("heartbeat", () => job?.heartbeat("10m")),
    step("retry", () => job?.retry({ error: "not yet" })),
    step("claim another", () => {
      job = one("q");
    }),
    step("snooze", () => job?.snooze("5s")),
    step("claim a third", () => {
      job = one("q");
    }),
    step("fail", () => job?.fail("never")),
    step("dead.retry", () => queue.dead.retry("all")),
    step("claim several", () => queue.claimBatch(5)),
    step("let claims expire, and claim", () => {
      clock.advance(600_000);
      job = one("q");
    }),
    step("ack", () => job?.ack()),
    step("claim three", () => {
      jobs = queue.claimBatch(3);
    }),
    step("ackBatch", () => queue.ackBatch(jobs)),
    step("enqueue where results are kept", () => keeping.enqueue(1)),
    step("claim there", () => {
      job = one("keeping");
    }),
    step("ack with a result", () => job?.ack({ result: 42 })),
    step("enqueue in groups", () => grouped.enqueueMany([1, 2, 3, 4], (_, n) => ({ group: `g${n % 2}` }))),
    step("claim of a group", () => {
      job = one("grouped");
    }),
    step("ack of a group", () => job?.ack()),
    step("enqueue a parent", () => {
      parent = flows.enqueue("parent");
    }),
    step("enqueue children", () => flows.enqueueMany(["a", "b"], { after: [parent] })),
    step("enqueue one that runs all the same", () =>
      flows.enqueue("c", { after: [parent], ifFailed: "run" }),
    ),
    step("claim the parent", () => {
      job = one("flows");
    }),
    step("bury the parent, and its children", () => job?.fail("no more")),
    step("enqueue for later", () => queue.enqueueMany(["to be changed", "to be cancelled"], { delay: "1h" })),
    step("update", () => queue.update(id("to be changed"), { payload: "changed", priority: 5 })),
    step("cancel", () => queue.cancel(id("to be cancelled"))),
    step("pause", () => grouped.pause()),
    step("resume", () => grouped.resume()),
    step("setLimits", () => keeping.setLimits({ concurrency: 3, keepCompleted: { maxCount: 1 } })),
    step("dead.purge", () => flows.dead.purge("all")),
    step("clear", () => grouped.clear()),
    step("publish", () => events.publish({ n: 1 }, { key: "alice" })),
    step("publishMany", () => events.publishMany(Array.from({ length: 30 }, (_, n) => ({ n })))),
    step("publishAsync", () => events.publishAsync("async")),
    step("seek", () => events.seek("consumer", 10)),
    step("trim", () => events.trim({ maxCount: 20 })),
    step("notify", () => db.notify("channel", { hello: "world" })),
    step("take a lock", () => {
      lock = db.tryLock("lock", { owner: "me" });
    }),
    step("release a lock", () => lock?.release()),
    step("ask a fixed window", () => fixed.try()),
    step("ask a token bucket", () => steady.try({ cost: 3 })),
    step("add a schedule", () =>
      db.scheduler.add("hourly", { cron: "0 * * * *", queue: "q", payload: "tick" }),
    ),
    step("trigger a schedule", () => db.scheduler.trigger("hourly")),
    step("pause a schedule", () => db.scheduler.pause("hourly")),
    step("remove a schedule", () => db.scheduler.remove("hourly")),
    step("capture a table", () => db.capture.add("orders", { into: { stream: "changes" } })),
    step("a change that is captured", () => db.sqlite.run("UPDATE orders SET total = total + 1")),
    step("remove a capture", () => db.capture.remove("orders")),
  ];
}

function step(name: string, run: () => unknown): Step {
  return { name, run };
}

/** Which process and thread it was, and counters of processes: differ from run to run. */
const IDENTITIES: Readonly<Record<string, readonly string[]>> = {
  _honker_live: ["worker_id"],
  _honker_locks: ["owner"],
  _honkbun_handles: ["handle", "pid", "started_at", "scope"],
};
/** By the system's clock. */
const TIMES: Readonly<Record<string, readonly string[]>> = {
  _honkbun_migrations: ["applied_at"],
  _honker_stream: ["created_at"], // of what triggers add
};
/** Where in the code it was. */
const PLACES: Readonly<Record<string, readonly string[]>> = { _honkbun_errors: ["stack"] };

/** All that is stored in a file, as text: the same for files in which the same has happened. */
export function contents(path: string): string {
  using database = new Database(path);
  database.run("PRAGMA busy_timeout = 5000");
  const tables = database
    .query<{ name: string }, []>(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'sqlite_stat1' ORDER BY name",
    )
    .all();
  return tables
    .map(({ name }) => {
      const hidden = new Set([IDENTITIES, TIMES, PLACES].flatMap((columns) => columns[name] ?? []));
      const rows = database.query<Record<string, unknown>, []>(`SELECT * FROM "${name}"`).all();
      const shown = rows.map((row) => {
        const cells = Object.entries(row).filter(([column]) => !hidden.has(column));
        return JSON.stringify(Object.fromEntries(cells));
      });
      return `${name}\n${shown.sort().join("\n")}`;
    })
    .join("\n\n");
}

/** @throws when SQLite finds anything wrong with the file */
export function assertIntegrity(path: string): void {
  using database = new Database(path);
  database.run("PRAGMA busy_timeout = 5000");
  const found = database.query<{ integrity_check: string }, []>("PRAGMA integrity_check").all();
  if (found.length !== 1 || found[0]?.integrity_check !== "ok") {
    throw new Error(`integrity_check: ${JSON.stringify(found)}`);
  }
}
