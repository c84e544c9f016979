import { describe, expect, test } from "bun:test";

import { type Honkbun, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

// Jobs that can no longer run as they stand are freed by whoever claims, or waits to claim.

const dead = (db: Honkbun): unknown[] =>
  db
    .queue("q")
    .dead.list()
    .map(({ id, errors }) => [id, errors.at(-1)?.message]);

describe("a claim", () => {
  test("passes over jobs that have expired, to those behind them, before any of a lower priority", () => {
    using db = database();
    const queue = db.queue<string>("q");
    queue.enqueueMany(
      Array.from({ length: 2_000 }, () => "expired"),
      { expiresIn: "1s", priority: 5 },
    );
    queue.enqueue("high", { priority: 5 });
    queue.enqueue("low");
    db.clock.advance("5s");
    expect(queue.claimBatch(1)[0]?.payload).toBe("high");
    expect(queue.claimBatch(5).map(({ payload }) => payload)).toEqual(["low"]);
    expect(queue.counts()).toMatchObject({ dead: 2_000, ready: 0 });
  });

  test("of a loop frees them in portions, between which the event loop goes on", async () => {
    using db = database({ file: true });
    const queue = db.queue<string>("q");
    for (let n = 0; n < 5; n++) {
      queue.enqueueMany(
        Array.from({ length: 5_000 }, () => "expired"),
        { expiresIn: "1s" },
      );
    }
    queue.enqueue("live");
    db.clock.advance("5s");
    let turns = 0;
    const count = setInterval(() => turns++, 0);
    const { value: job } = await within(queue.claim().next(), "the live one is claimed");
    clearInterval(count);
    expect(job.payload).toBe("live");
    expect(turns).toBeGreaterThan(5);
    expect(queue.counts().dead).toBe(25_000);
  });

  test("does so also for jobs that have expired since it looked last, within the same second", () => {
    using db = database({ now: new Date("2040-01-01T00:00:00Z") });
    const queue = db.queue<string>("q");
    expect(queue.claimBatch(1)).toEqual([]); // looked
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload, priority, run_at, expires_at)
      VALUES ('q', '"expired"', 5, 1, 2), ('q', '"high"', 5, 3, NULL), ('q', '"low"', 0, 1, NULL)`);
    expect(queue.claimBatch(1)[0]?.payload).toBe("high");
    db.sqlite.run(`INSERT INTO _honker_live (queue, payload, priority, run_at, expires_at)
      VALUES ('q', '"expired"', 5, 1, 2), ('q', '"expired"', 5, 1, 2), ('q', '"high"', 5, 3, NULL)`);
    expect(queue.claimBatch(2).map(({ payload }) => payload)).toEqual(["high", "low"]);
  });

  test("hands a batch out by due time, whatever the order of ids", () => {
    using db = database();
    const queue = db.queue<string>("q");
    queue.enqueue("c", { delay: 30 });
    queue.enqueue("a", { delay: 10 });
    queue.enqueue("b", { delay: 20 });
    queue.enqueue("first", { delay: 25, priority: 1 });
    db.clock.advance(30);
    expect(queue.claimBatch(9).map(({ payload }) => payload)).toEqual(["first", "a", "b", "c"]);
  });

  test("takes a job in the second before it expires, and not in the one in which it does", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue<string>("q");
    queue.enqueue("taken", { expiresIn: "10s" });
    db.clock.advance(9_999);
    expect(queue.claimBatch(1)).toHaveLength(1);
    queue.enqueue("expired", { expiresIn: 1 }); // at least a second, rounded up
    db.clock.advance(1_001);
    expect(queue.claimBatch(1)).toEqual([]);
    expect(dead(db)).toEqual([[2, "expired"]]);
  });

  test("holds for at least the visibility timeout, in whole seconds", () => {
    using db = database({ now: new Date("2030-01-01T00:00:00.999Z") });
    const queue = db.queue("q", { visibilityTimeout: "1s" });
    queue.enqueue(1);
    queue.claimBatch(1);
    db.clock.advance(1_001); // to :02.000, the second that its claim holds through
    expect(queue.claimBatch(1)).toEqual([]);
    db.clock.advance(1_000);
    expect(queue.claimBatch(1)).toMatchObject([{ attempt: 2 }]);
  });
});

for (const file of [false, true]) {
  describe(`a loop that waits, ${file ? "on a file" : "in memory"}`, () => {
    test("buries a job that expires before it is due", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1, { delay: "1h", expiresIn: "5s" });
      void queue.claim().next();
      await eventually(() => db.stats().wake.mode !== "idle", "the loop waits");
      db.clock.advance("4s");
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(queue.get(id)?.state).toBe("delayed");
      db.clock.advance("2s");
      await eventually(() => queue.get(id)?.state === "dead", "it is buried");
      expect(dead(db)).toEqual([[id, "expired"]]);
    });

    test("buries a job that expires while the queue is paused", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      queue.pause();
      const id = queue.enqueue(1, { expiresIn: "5s" });
      void queue.claim().next();
      db.clock.advance("6s");
      await eventually(() => queue.get(id)?.state === "dead", "it is buried");
    });

    test("buries a job that comes without attempts", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const next = queue.claim().next();
      await new Promise((resolve) => setTimeout(resolve, 10));
      db.sqlite.run("INSERT INTO _honker_live (queue, payload, max_attempts) VALUES ('q', '1', 0)");
      db.queue("other").enqueue(1); // a commit that wakes
      await eventually(() => queue.counts().dead === 1, "it is buried");
      expect(Bun.peek.status(next)).toBe("pending");
    });

    test("frees a claim that comes without a time at which it expires", async () => {
      using db = database({ file });
      for (const expiry of ["NULL", "'soon'"]) {
        const jobs = db.queue(expiry).claim();
        const next = jobs.next();
        await new Promise((resolve) => setTimeout(resolve, 10));
        db.sqlite.run(`INSERT INTO _honker_live (queue, payload, state, worker_id, claim_expires_at)
          VALUES ('${expiry.replaceAll("'", "''")}', '1', 'processing', 'me', ${expiry})`);
        db.queue("other").enqueue(1); // a commit that wakes
        expect((await within(next, "it is claimed")).value.attempt).toBe(1);
        await jobs.return?.();
      }
    });

    test("does not spin on a claim in the second in which it expires, nor on a paused queue", async () => {
      using db = database({ file, now: new Date("2030-01-01T00:00:00Z") });
      const queue = db.queue("q", { visibilityTimeout: "10s" });
      queue.enqueue(1);
      queue.claimBatch(1);
      db.queue("paused").enqueue(1);
      db.queue("paused").pause();
      void queue.claim().next();
      void db.queue("paused").claim().next();
      db.clock.advance("10s");
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { rings, looks, wakes } = db.stats().wake;
      await new Promise((resolve) => setTimeout(resolve, 100));
      const after = db.stats().wake;
      expect([after.rings - rings, after.wakes - wakes]).toEqual([0, 0]);
      expect(after.looks - looks).toBeLessThan(20);
    });
  });
}

describe("the errors of attempts", () => {
  test("leave nothing behind when a holder acks whose claim a clock ahead has freed", () => {
    using folder = new Folder();
    let ahead = 0;
    using db = open(folder.file());
    using other = open(folder.file(), { clock: () => Date.now() + ahead });
    const queue = db.queue("q", { visibilityTimeout: "10s" });
    for (const settle of ["ack", "ackBatch"]) {
      queue.enqueueMany([1, 2]);
      const jobs = queue.claimBatch(2);
      ahead = 60_000;
      other.queue("q").pause();
      other.queue("q").claimBatch(1); // frees both
      ahead = 0;
      expect(db.sqlite.query("SELECT count(*) AS n FROM _honkbun_errors").get()).toEqual({ n: 2 });
      if (settle === "ack") for (const job of jobs) job.ack();
      else expect(queue.ackBatch(jobs)).toBe(2);
      expect(db.sqlite.query("SELECT count(*) AS n FROM _honkbun_errors").get()).toEqual({ n: 0 });
      other.queue("q").resume();
    }
  });

  test("tell honker's last one as well, though there was one of that number before the job was tried anew", () => {
    using db = database();
    const queue = db.queue("q", { maxAttempts: 1 });
    const id = queue.enqueue(1);
    queue.claimBatch(1)[0]?.retry({ error: "ours" });
    queue.dead.retry("all");
    db.clock.advance("1m");
    db.sqlite.run("DELETE FROM _honker_live");
    db.sqlite.run(
      `INSERT INTO _honker_dead (id, queue, payload, attempts, max_attempts, last_error, died_at)
       VALUES (?, 'q', '1', 1, 1, 'theirs', ?)`,
      [id, Math.floor(db.clock.now / 1_000)],
    );
    expect(queue.get(id)?.errors.map(({ message }) => message)).toEqual(["ours", "theirs"]);
  });
});

test("the default backoff is at most an hour, and a fifth shorter or longer", () => {
  using db = database();
  const queue = db.queue("q", { maxAttempts: 100 });
  const id = queue.enqueue(1);
  const waits = new Set<number>();
  for (let attempt = 1; attempt <= 40; attempt++) {
    queue.claimBatch(1)[0]?.retry();
    const wait = (queue.get(id)?.runAt.getTime() ?? 0) - db.clock.now;
    const middle = 5_000 * 2 ** (attempt - 1);
    expect(wait).toBeLessThanOrEqual(Math.min(middle * 1.2 + 1, 3_600_000));
    expect(wait).toBeGreaterThanOrEqual(Math.min(middle * 0.8, 3_600_000 * 0.8));
    waits.add(wait / middle);
    db.clock.advance(wait);
  }
  expect(waits.size).toBeGreaterThan(5); // not always the same share
});
