import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Events, type Honkbun, JobExpiredError, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const NAMES = ["job:completed", "job:retried", "job:dead", "job:unsettled"] as const;

function record(db: Honkbun): [keyof Events, unknown][] {
  const seen: [keyof Events, unknown][] = [];
  for (const name of NAMES) db.on(name, (event) => void seen.push([name, event]));
  return seen;
}

describe("job events", () => {
  test("tell what became of each attempt, with its error", () => {
    using db = database();
    const seen = record(db);
    const queue = db.queue("q", { backoff: () => 0 });
    const error = new Error("down");
    queue.enqueue(1, { maxAttempts: 2 });
    queue.enqueue(2);
    const [first, second] = queue.claimBatch(2);
    first?.retry({ error });
    second?.ack();
    queue.claimBatch(1)[0]?.retry({ error });
    queue.enqueue(3);
    queue.claimBatch(1)[0]?.snooze(0); // nothing has become of it
    queue.claimBatch(1)[0]?.fail("no");
    queue.enqueue(4);
    queue.ackBatch(queue.claimBatch(1));
    expect(seen).toEqual([
      ["job:retried", { id: 1, queue: "q", attempt: 1, error }],
      ["job:completed", { id: 2, queue: "q", attempt: 1 }],
      ["job:dead", { id: 1, queue: "q", attempt: 2, error }],
      ["job:dead", { id: 3, queue: "q", attempt: 1, error: "no" }],
      ["job:completed", { id: 4, queue: "q", attempt: 1 }],
    ]);
  });

  test("tell of jobs that a claim has freed or buried on the way", () => {
    using db = database();
    const seen = record(db);
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    queue.enqueue(1, { maxAttempts: 1 });
    queue.enqueue(2);
    queue.claimBatch(2);
    queue.enqueue(3, { expiresIn: "1s" });
    db.sqlite.run("INSERT INTO _honker_live (queue, payload, run_at) VALUES ('q', 'oops', 0)");
    db.clock.advance("12s");
    expect(queue.claimBatch(9)).toHaveLength(1);
    expect(seen).toMatchObject([
      [
        "job:retried",
        { id: 2, attempt: 1, error: { message: expect.stringContaining("the claim expired") } },
      ],
      ["job:dead", { id: 1, attempt: 1, error: { message: "max attempts exceeded" } }],
      ["job:dead", { id: 3, attempt: 0, error: expect.any(JobExpiredError) }],
      ["job:dead", { id: 4, attempt: 1, error: { message: expect.stringContaining("is not JSON") } }],
    ]);
  });

  test("come after the commit, and not at all after a rollback", () => {
    using db = database({ file: true });
    const seen = record(db);
    const queue = db.queue("q");
    db.sqlite.run("INSERT INTO _honker_live (queue, payload, priority) VALUES ('q', 'oops', 1)");
    queue.enqueue(1);
    expect(() =>
      db.transaction(() => {
        queue.claimBatch(1)[0]?.ack();
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(seen).toEqual([]);
    db.transaction(() => {
      db.transaction(() => queue.claimBatch(1)[0]?.ack());
      expect(seen).toEqual([]);
    });
    expect(seen.map(([name]) => name)).toEqual(["job:dead", "job:completed"]);
  });

  test("come soon after the commit of a transaction on another handle", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    using mine = new Database(folder.file());
    const seen = record(db);
    const queue = db.queue("q");
    queue.enqueueMany([1, 2]);
    const [first, second] = queue.claimBatch(2);
    mine.run("BEGIN IMMEDIATE");
    first?.ack({ tx: mine });
    mine.run("ROLLBACK");
    await eventually(() => first?.settled === false, "the rollback is noticed");
    mine.run("BEGIN IMMEDIATE");
    second?.ack({ tx: mine });
    mine.run("COMMIT");
    await eventually(() => seen.length > 0, "the commit is noticed");
    expect(seen).toEqual([["job:completed", { id: 2, queue: "q", attempt: 1 }]]);
  });

  test("may throw, which is reported and ends nothing", async () => {
    using db = database();
    const errors: unknown[] = [];
    using _ = db.on("error", ({ where }) => void errors.push(where));
    using __ = db.on("job:completed", () => {
      throw new Error("mine");
    });
    const seen = record(db);
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2]);
    for await (const job of queue.claim()) {
      job.ack();
      expect(job.settled).toBe(true);
      if (job.payload === 2) break;
    }
    expect(seen.map(([name]) => name)).toEqual(["job:completed", "job:completed"]);
    expect(errors).toEqual(["a listener of job:completed", "a listener of job:completed"]);
  });

  test("may send in turn", () => {
    using db = database();
    using _ = db.on("job:dead", ({ id }) => void db.queue("alarms").enqueue({ id }));
    const queue = db.queue("q");
    queue.enqueue(1);
    db.transaction(() => queue.claimBatch(1)[0]?.fail("x"));
    expect(db.queue("alarms").claimBatch(1)).toMatchObject([{ payload: { id: 1 } }]);
  });
});

test("an asynchronous listener's rejection is reported, and ends nothing", async () => {
  using db = database();
  const errors: unknown[] = [];
  db.on("error", ({ error, where }) => void errors.push([(error as Error).message, where]));
  db.on("job:completed", async () => {
    throw new Error("from the listener");
  });
  using _ = db.listen("c", async () => {
    throw new Error("from the other");
  });
  db.queue("q").enqueue(1);
  db.queue("q").claimBatch(1)[0]?.ack();
  db.notify("c");
  await eventually(() => errors.length === 2, "both are reported");
  expect(errors.sort()).toEqual([
    ["from the listener", "a listener of job:completed"],
    ["from the other", "listener of c"],
  ]);
});
