import { describe, expect, test } from "bun:test";

import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";

/** What somebody may write by hand, by the columns of _honker_live after queue. */
const CARELESS: Record<string, { sql: string; runs: boolean; error?: RegExp }> = {
  "a queue and a payload": { sql: "(queue, payload) VALUES ('q', '1')", runs: true },
  "JSON that is none": { sql: "(queue, payload) VALUES ('q', '{oops')", runs: false, error: /is not JSON/ },
  "an empty payload": { sql: "(queue, payload) VALUES ('q', '')", runs: false, error: /is not JSON/ },
  "a BLOB as payload": { sql: "(queue, payload) VALUES ('q', x'ff00')", runs: false, error: /is not JSON/ },
  "an absurd priority": {
    sql: "(queue, payload, priority) VALUES ('q', '1', 9000000000000000)",
    runs: true,
  },
  "a negative absurd priority": {
    sql: "(queue, payload, priority) VALUES ('q', '1', -9000000000000000)",
    runs: true,
  },
  "a priority that no number holds": {
    sql: "(queue, payload, priority) VALUES ('q', '1', 9223372036854775807)",
    runs: true,
  },
  "a BLOB as priority": {
    sql: "(queue, payload, priority) VALUES ('q', '1', x'ff')",
    runs: true,
  },
  "a number as BLOB": { sql: "(queue, payload) VALUES ('q', x'31')", runs: false, error: /it is a BLOB/ },
  "a claim without an expiry": {
    sql: "(queue, payload, state, worker_id) VALUES ('q', '1', 'processing', 'me')",
    runs: true,
  },
  "a claim that expires in words": {
    sql: "(queue, payload, state, worker_id, claim_expires_at) VALUES ('q', '1', 'processing', 'me', 'soon')",
    runs: true,
  },
  "so many attempts allowed, in words": {
    sql: "(queue, payload, max_attempts) VALUES ('q', '1', 'three')",
    runs: false,
    error: /its max_attempts is no number/,
  },
  "a priority in words": { sql: "(queue, payload, priority) VALUES ('q', '1', 'high')", runs: true },
  "a fractional priority": { sql: "(queue, payload, priority) VALUES ('q', '1', 0.5)", runs: true },
  "a fractional run_at": { sql: "(queue, payload, run_at) VALUES ('q', '1', 1700000000.75)", runs: true },
  "a run_at in words": { sql: "(queue, payload, run_at) VALUES ('q', '1', 'now')", runs: true },
  "a negative run_at": { sql: "(queue, payload, run_at) VALUES ('q', '1', -5)", runs: true },
  "no attempts allowed": {
    sql: "(queue, payload, max_attempts) VALUES ('q', '1', 0)",
    runs: false,
    error: /max attempts exceeded/,
  },
  "attempts in words": {
    sql: "(queue, payload, attempts) VALUES ('q', '1', 'none')",
    runs: false,
    error: /max attempts exceeded/,
  },
  "an expiry long ago": {
    sql: "(queue, payload, expires_at) VALUES ('q', '1', 5)",
    runs: false,
    error: /expired/,
  },
};

for (const [what, { sql, runs, error }] of Object.entries(CARELESS)) {
  test(`a row with ${what} is ${runs ? "run" : "buried, with the reason"}, and the loop goes on`, async () => {
    using db = database({ file: true });
    const errors: unknown[] = [];
    using _ = db.on("error", (event) => void errors.push(event));
    db.sqlite.run(`INSERT INTO _honker_live ${sql}`);
    const seen: unknown[] = [];
    void (async () => {
      for await (const job of db.queue("q").claim()) {
        seen.push(job.payload);
        // as far as a job goes, so that its row is written and copied in all ways
        if (job.payload === 1 && job.attempt === 1) job.retry({ delay: 0, error: "again" });
        else job.fail("enough");
      }
    })();
    db.queue("q").enqueue("after", { priority: -100 });
    await eventually(() => db.queue("q").counts().dead === 2, "both have ended");
    expect(seen.map(String).sort()).toEqual(runs ? ["1", "1", "after"] : ["after"]);
    const dead = db.queue("q").dead.list();
    expect(dead[0]?.errors.at(-1)?.message).toMatch(error ?? /enough/);
    expect(db.queue("q").list()).toHaveLength(2);
    expect(errors).toEqual([]);
    // honker reads these strictly
    const types = `SELECT DISTINCT typeof(priority) || typeof(run_at) || typeof(attempts) || typeof(max_attempts) AS t FROM _honker_dead`;
    expect(db.sqlite.query(types).all()).toEqual([{ t: "integer".repeat(4) }]);
  });
}

describe("a queue full of careless rows", () => {
  test("is claimed in the order of priorities, whatever their types", () => {
    using db = database();
    db.sqlite.run(
      `INSERT INTO _honker_live (queue, payload, priority) VALUES
         ('q', '3', 0), ('q', '4', -7.5), ('q', '2', 1e9), ('q', '1', 'high'), ('q', '5', -1000)`,
    );
    expect(
      db
        .queue("q")
        .claimBatch(9)
        .map((job) => job.payload),
    ).toEqual([1, 2, 3, 4, 5]);
  });
});

test("a row with an id that no number holds is buried, with the reason", () => {
  using db = database();
  const queue = db.queue("q");
  const id = queue.enqueue("before");
  db.sqlite.run("INSERT INTO _honker_live (id, queue, payload) VALUES (9223372036854775000, 'q', '1')");
  expect(queue.claimBatch(9).map((job) => job.id)).toEqual([id]);
  expect(queue.dead.list()).toMatchObject([
    { errors: [{ message: expect.stringMatching(/its id is more/) }] },
  ]);
  expect(queue.counts()).toMatchObject({ ready: 0, dead: 1 });
});
