import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";

/** Tables that may hold any number of rows. */
const LARGE = /^(SCAN|SEARCH) (_honk\w+|first|live|dead|result|cancelled)/;

/** An index that has a row for each dependent of a failed job, until it is buried. */
const SMALL = "_honkbun_dependencies_failed";

/** A table that is walked in order for a bounded number of rows. */
const BOUNDED = [/^SELECT id FROM \(SELECT id, cancelled_at FROM _honkbun_cancelled ORDER BY seq LIMIT/];

/** All statements that are prepared while `use` runs. */
function prepared(use: () => void): Set<string> {
  const all = new Set<string>();
  const { prepare } = Database.prototype;
  Database.prototype.prepare = function (this: Database, sql: string, ...rest: []) {
    all.add(sql);
    return prepare.call(this, sql, ...rest);
  } as typeof prepare;
  try {
    use();
  } finally {
    Database.prototype.prepare = prepare;
  }
  return all;
}

test("no statement about jobs walks over a table", () => {
  using folder = new Folder();
  using db = open(folder.file());
  const statements = prepared(() => {
    const queue = db.queue("q", { keepResult: "1h", maxAttempts: 2, backoff: { base: 0 } });
    const ids = queue.enqueueMany(Array.from({ length: 40 }, (_, n) => n));
    for (const job of queue.claimBatch(2)) {
      job.heartbeat();
      job.progress(1);
      job.retry({ error: "no" });
    }
    for (const job of queue.claimBatch(2)) job.retry({ error: "no" });
    const [one, two, ...others] = queue.claimBatch(9);
    one?.ack({ result: 1 });
    two?.snooze("1m");
    queue.ackBatch(others);
    db.transaction(() => queue.claimBatch(1)[0]?.fail("no"));
    for (const state of ["ready", "delayed", "processing", "blocked", "completed", "dead"] as const)
      queue.list({ state });
    queue.get(ids[20] ?? 0);
    queue.counts();
    queue.latency();
    queue.update(ids[30] ?? 0, { priority: 2 });
    queue.cancel(ids[31] ?? 0);
    queue.dead.list();
    queue.dead.retry([1]);
    queue.dead.purge("all");
    queue.dead.retry("all");
    const unique = { uniqueKey: "k", uniqueFor: "1m", uniqueUntil: "start" } as const;
    for (const onDuplicate of ["keep", "replace"] as const) queue.enqueue(1, { ...unique, onDuplicate });
    queue.claimBatch(1000);
    queue.enqueue(1, unique);
    queue.enqueueMany([1, 2], { group: "g" });
    queue.enqueue(3, { group: "g", delay: 1, after: ids });
    queue.setLimits({
      concurrency: 1_000,
      groupConcurrency: 2,
      rate: { limit: 1_000, per: "1m" },
      keepCompleted: { maxAge: "1m", maxCount: 10 },
      keepDead: { maxAge: "1m", maxCount: 10 },
    });
    queue.claimBatch(1)[0]?.ack();
    queue.claimBatch(1)[0]?.fail("no");
    queue.dead.retry("all");
    queue.pause();
    queue.clear();
    void queue.watch(ids[20] ?? 0).return?.();
    void queue.claim().next();
  });
  expect(statements.size).toBeGreaterThan(40);
  const scans: string[] = [];
  for (const sql of statements) {
    if (!/^(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(sql.trim())) continue;
    if (BOUNDED.some((pattern) => pattern.test(sql.replace(/\s+/g, " ").trim()))) continue;
    for (const { detail } of db.sqlite.query<{ detail: string }, []>(`EXPLAIN QUERY PLAN ${sql}`).all()) {
      if (
        !detail.includes(SMALL) &&
        LARGE.test(detail) &&
        (detail.startsWith("SCAN") || !/USING/.test(detail))
      ) {
        scans.push(`${detail}: ${sql.replace(/\s+/g, " ")}`);
      }
    }
  }
  expect(scans).toEqual([]);
});
