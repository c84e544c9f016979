import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, JobExpiredError, open, UnrecoverableError } from "../../src/index.ts";
import { Commits } from "../support/commits.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

// What may go wrong beside a handler that simply throws, and at awkward moments.

const turns = async (count = 5): Promise<void> => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setTimeout(resolve, 2));
};

function reported(db: Honkbun): string[] {
  const errors: string[] = [];
  db.on("error", ({ error }) => void errors.push((error as Error).message));
  return errors;
}

describe("a handler that ends in an odd way", () => {
  const odd: Record<string, [() => unknown, RegExp]> = {
    "throws an error whose message is an object": [
      () => {
        throw Object.assign(new Error(), { message: { code: 5 } });
      },
      /code.*5/,
    ],
    "throws an error whose message is a symbol": [
      () => {
        throw Object.assign(new Error(), { message: Symbol("x") });
      },
      /Symbol\(x\)/,
    ],
    "throws an error whose stack is no text": [
      () => {
        throw Object.assign(new Error("plain"), { stack: [] });
      },
      /plain/,
    ],
    "throws an error whose stack throws": [
      () => {
        const error = new Error("plain");
        Object.defineProperty(error, "stack", {
          get: () => {
            throw new Error("no");
          },
        });
        throw error;
      },
      /plain/,
    ],
    "throws a proxy that was revoked": [
      () => {
        const { proxy, revoke } = Proxy.revocable(new Error("x"), {});
        revoke();
        throw proxy;
      },
      /without a message/,
    ],
    "throws half a character": [
      () => {
        throw new Error("half \ud83d");
      },
      /half/,
    ],
    "throws nothing": [
      () => {
        throw undefined;
      },
      /max attempts exceeded/,
    ],
    "returns what cannot be looked at": [
      () => {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return proxy;
      },
      /./,
    ],
    "returns something with a then that throws": [
      () => ({
        // biome-ignore lint/suspicious/noThenProperty: that is the point
        get then() {
          throw new Error("no then");
        },
      }),
      /no then/,
    ],
    "rejects with text": [() => Promise.reject("a text"), /a text/],
  };
  for (const [what, [handler, message]] of Object.entries(odd)) {
    test(`because it ${what}, has failed, and the worker goes on`, async () => {
      using db = database({ file: true });
      const queue = db.queue<string>("q", { maxAttempts: 1, keepResult: true });
      const [bad = 0, good = 0] = queue.enqueueMany(["odd", "good"]);
      await using _ = queue.work((job) => (job.payload === "odd" ? handler() : 1));
      await eventually(() => queue.get(good)?.state === "completed", "the other one is run");
      expect(queue.get(bad)?.state).toBe("dead");
      expect(queue.get(bad)?.errors.at(-1)?.message).toMatch(message);
    });
  }
});

describe("an outcome that alone cannot be written", () => {
  const REFUSE = `CREATE TRIGGER picky BEFORE DELETE ON _honker_live WHEN old.payload = '"bad"'
    BEGIN SELECT raise(ABORT, 'not that one'); END`;

  test("holds up no other, is tried again, and counts once it can be written", async () => {
    using db = database({ file: true });
    db.sqlite.run(REFUSE);
    const errors = reported(db);
    const queue = db.queue<string>("q");
    const ids = queue.enqueueMany(["bad", "one", "two", "three"]);
    let runs = 0;
    const worker = queue.work(() => void runs++, { concurrency: 4 });
    await eventually(() => ids.slice(1).every((id) => queue.get(id) === null), "the others are acked", 800);
    expect(queue.get(ids[0] ?? 0)?.state).toBe("processing");
    expect(new Set(errors)).toEqual(new Set(["not that one"]));
    db.sqlite.run("DROP TRIGGER picky");
    await eventually(() => queue.get(ids[0] ?? 0) === null, "it is acked");
    await worker.stop();
    expect(runs).toBe(4);
  });

  test("does not keep close from giving the others back", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.sqlite.run(REFUSE);
    reported(db);
    const queue = db.queue<string>("q");
    queue.enqueueMany(["bad", "runs"]);
    const worker = queue.work((job) => (job.payload === "bad" ? undefined : new Promise(() => {})), {
      concurrency: 2,
    });
    await eventually(() => worker.running === 1, "one has ended");
    await turns();
    db.close();
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject([
      { payload: "bad", state: "processing" },
      { payload: "runs", state: "ready", attempts: 0 },
    ]);
  });
});

test("a queue whose claims fail does not keep another one's tasks from being run", async () => {
  using db = database({ file: true });
  const errors = reported(db);
  db.sqlite.run(`CREATE TRIGGER picky BEFORE UPDATE ON _honker_live WHEN old.queue = 'bad'
    BEGIN SELECT raise(ABORT, 'not that queue'); END`);
  let runs = 0;
  for (const name of ["bad", "good"])
    db.task(name, {}, () => void runs++).enqueueMany(Array(20).fill(undefined));
  const worker = db.work();
  await eventually(() => runs === 20, "the good ones are run");
  await turns(20);
  expect(new Set(errors)).toEqual(new Set(["not that queue"]));
  expect(errors.length).toBeLessThan(4); // not in a hot loop
  db.sqlite.run("DROP TRIGGER picky");
  await eventually(() => runs === 40, "the others are run as well");
  await worker.stop();
});

describe("a stop whose deadline is over", () => {
  for (const what of ["stop", "shutdown"] as const) {
    test(`ends ${what}, though a handler has left a transaction open`, async () => {
      using folder = new Folder();
      const db = open(folder.file(), { busyTimeout: 300 });
      reported(db);
      const queue = db.queue("q");
      queue.enqueue(1);
      const worker = queue.work(() => {
        db.sqlite.run("BEGIN IMMEDIATE");
        return new Promise(() => {});
      });
      await eventually(() => worker.running === 1, "it runs");
      await within(
        what === "stop" ? worker.stop({ timeout: 20 }) : db.shutdown({ timeout: 20 }),
        "its end",
        5_000,
      );
      await worker.stopped;
      db.close();
      using again = open(folder.file());
      expect(again.queue("q").list()).toMatchObject([{ state: "ready", attempts: 0 }]);
    });
  }

  test("ends it though another connection holds the lock, and gives back once that is free", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    const queue = db.queue("q");
    queue.enqueue(1);
    const worker = queue.work(() => new Promise(() => {}));
    await eventually(() => worker.running === 1, "it runs");
    using other = new Database(folder.file());
    other.run("BEGIN IMMEDIATE");
    await within(worker.stop({ timeout: 20 }), "its end", 5_000);
    other.run("COMMIT");
    await eventually(() => queue.counts().ready === 1, "it is given back");
    expect(queue.list()).toMatchObject([{ attempts: 0 }]);
  });

  test("counts what finishes while it waits to be given back", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    const queue = db.queue("q", { keepResult: true });
    const id = queue.enqueue(1);
    const gate = Promise.withResolvers<string>();
    const worker = queue.work(() => gate.promise);
    await eventually(() => worker.running === 1, "it runs");
    using other = new Database(folder.file());
    other.run("BEGIN IMMEDIATE");
    await worker.stop({ timeout: 0 });
    gate.resolve("done");
    await turns();
    other.run("COMMIT");
    await eventually(() => queue.get(id)?.state === "completed", "it counts");
  });
});

test("never more handlers run at once than there are slots, though claims are lost while outcomes wait", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  reported(db);
  const queue = db.queue<number>("q");
  const ids = queue.enqueueMany(Array.from({ length: 12 }, (_, n) => n));
  let most = 0;
  let running = 0;
  const gates = new Map<number, PromiseWithResolvers<void>>();
  const worker = queue.work(
    async (job) => {
      most = Math.max(most, ++running);
      const gate = Promise.withResolvers<void>();
      gates.set(job.id, gate);
      await gate.promise;
      running--;
    },
    { concurrency: 2, prefetch: 0 },
  );
  for (let n = 0; n < 10; n += 2) {
    await eventually(() => gates.size === 2, "two run");
    db.sqlite.run("BEGIN IMMEDIATE");
    for (const gate of gates.values()) gate.resolve();
    await turns(8); // ended, and nothing can be written
    const lost = [...gates.keys()][0] ?? 0;
    gates.clear();
    queue.cancel(lost, { tx: db.sqlite });
    db.sqlite.run("COMMIT"); // which is noticed before the outcomes are tried again
    await turns(10);
  }
  for (const gate of gates.values()) gate.resolve();
  await worker.stop({ timeout: 100 });
  expect(most).toBe(2);
  expect(ids).toHaveLength(12);
});

describe("closing in the midst of a round", () => {
  test("by a listener of an outcome gives back what the same transaction has claimed", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2]);
    let completed = 0;
    db.on("job:completed", () => {
      completed++;
      db.close();
    });
    queue.work(() => {}, { prefetch: 0 });
    await eventually(() => completed > 0, "one has ended");
    await turns();
    expect(completed).toBe(1);
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject([{ payload: 2, state: "ready", attempts: 0 }]);
  });

  test("by a schema gives back all that were claimed", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    let reads = 0;
    let isWorking = false;
    const queue = db.queue("q", {
      schema: {
        "~standard": {
          version: 1 as const,
          vendor: "test",
          validate: (value: unknown) => {
            if (isWorking && ++reads === 2) db.close();
            return { value };
          },
        },
      },
    });
    queue.enqueueMany([1, 2, 3, 4, 5]);
    isWorking = true;
    const worker = queue.work(() => new Promise(() => {}), { concurrency: 5 });
    await within(worker.stopped, "it has stopped");
    using again = open(folder.file());
    expect(again.queue("q").counts()).toMatchObject({ ready: 5, processing: 0 });
    expect(
      again
        .queue("q")
        .list()
        .every(({ attempts }) => attempts === 0),
    ).toBe(true);
  });

  test("tells of no outcome when its last transaction is rolled back", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const errors = reported(db);
    const [ends, runs] = [db.queue<number>("ends"), db.queue<number>("runs")];
    ends.enqueue(1);
    runs.enqueue(2);
    let completed = 0;
    db.on("job:completed", () => void completed++);
    const gate = Promise.withResolvers<void>();
    const workers = [ends.work(() => gate.promise), runs.work(() => new Promise(() => {}))];
    await eventually(() => workers.every(({ running }) => running === 1), "both run");
    db.sqlite.run(`CREATE TRIGGER picky BEFORE UPDATE ON _honker_live WHEN new.state = 'pending'
      BEGIN SELECT raise(ABORT, 'not given back'); END`);
    gate.resolve();
    while ((workers[0]?.running ?? 0) > 0) await Promise.resolve(); // ended, and nothing is written yet
    db.close();
    expect(errors).toEqual(["not given back"]);
    expect(completed).toBe(0);
    using again = open(folder.file());
    expect(again.queue("ends").counts().processing).toBe(1);
  });

  test("tells of every outcome that is committed, by whichever of several workers", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const queue = db.queue<number>("q");
    queue.enqueueMany(Array.from({ length: 40 }, (_, n) => n));
    const completed = new Set<number>();
    db.on("job:completed", ({ id }) => {
      completed.add(id);
      if (completed.size === 3) db.close();
    });
    for (let n = 0; n < 3; n++) queue.work(async () => {}, { concurrency: 2, prefetch: 0 });
    await eventually(() => completed.size >= 3, "it is closed");
    await turns();
    using again = open(folder.file());
    const left = new Set(
      again
        .queue("q")
        .list()
        .map(({ id }) => id),
    );
    for (let id = 1; id <= 40; id++) expect([id, completed.has(id)]).toEqual([id, !left.has(id)]);
    expect(again.queue("q").counts().processing).toBe(0);
  });
});

test("an idle worker whose file is replaced stops with the reason, and one that an own call told first says so", async () => {
  const { renameSync } = await import("node:fs");
  for (const noticedBy of ["hub", "call"]) {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: 20 } });
    const errors = reported(db);
    const gate = Promise.withResolvers<void>();
    if (noticedBy === "call") db.queue("q").enqueue(1);
    const worker = db.queue("q").work(() => gate.promise);
    await eventually(() => worker.running === (noticedBy === "call" ? 1 : 0), "it waits");
    open(folder.file("other.db")).close();
    renameSync(folder.file("other.db"), folder.file());
    if (noticedBy === "call") {
      await turns(1);
      expect(() => db.queue("q").enqueue(2)).toThrow("while honkbun had it open");
      gate.resolve();
    }
    const stopped = within(worker.stopped, "it has stopped").catch((error) => error);
    expect(await stopped).toMatchObject({ code: "HONKBUN_FILE_REPLACED" });
    await eventually(() => errors.length > 0, "it is reported");
  }
});

test("an idle third queue does not take the turns of two that have work", async () => {
  using db = database({ file: true });
  const starts: string[] = [];
  const done = Promise.withResolvers<void>();
  for (const name of ["a", "b"]) {
    const task = db.task(name, {}, async () => {
      if (starts.push(name) === 400) done.resolve();
    });
    task.enqueueMany(Array(600).fill(undefined));
  }
  for (let n = 0; n < 10; n++) db.task(`idle ${n}`, {}, () => {});
  await using _ = db.work({ prefetch: 0 });
  await within(done.promise, "400 starts");
  const share = starts.slice(0, 400).filter((name) => name === "a").length;
  expect(share).toBeGreaterThanOrEqual(160);
  expect(share).toBeLessThanOrEqual(240);
});

test("a worker's timeouts are kept beside another that commits all the time", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  reported(db);
  const busy = db.queue<number>("busy");
  busy.enqueueMany(Array.from({ length: 30_000 }, (_, n) => n));
  const other = busy.work(async () => {}, { prefetch: 0 });
  const late: number[] = [];
  const slow = db.queue<number>("slow", { maxAttempts: 1 });
  slow.enqueueMany([1, 2, 3, 4, 5, 6]);
  const worker = slow.work(
    async ({ signal }) => {
      const start = performance.now();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      late.push(performance.now() - start - 50);
      throw signal.reason;
    },
    { timeout: 50 },
  );
  await eventually(() => late.length === 6, "all are told");
  await Promise.all([worker.stop(), other.stop()]);
  expect(late.toSorted((a, b) => a - b)[2]).toBeLessThan(40); // the median; the machine may be busy
});

test("a job that has finished is not told that its claim is lost by a renewal in the same transaction", async () => {
  using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
  const queue = db.queue("q", { visibilityTimeout: "30s" });
  queue.enqueue(1);
  const gate = Promise.withResolvers<void>();
  let signal: AbortSignal | undefined;
  const worker = queue.work((job) => {
    signal = job.signal;
    return gate.promise;
  });
  await eventually(() => worker.running === 1, "it runs");
  gate.resolve();
  await Promise.resolve();
  db.clock.advance("10s"); // a renewal is due in the very tick
  await worker.stop();
  await turns();
  expect(signal?.aborted).toBe(false);
});

test("a job that is cancelled while it waits for a slot is never started", async () => {
  using db = database({ file: true });
  const queue = db.queue<number>("q");
  const ids = queue.enqueueMany([1, 2, 3]);
  const seen: number[] = [];
  const gate = Promise.withResolvers<void>();
  const worker = queue.work(
    (job) => {
      seen.push(job.payload);
      if (job.payload === 1) {
        queue.cancel(ids[1] ?? 0);
        return turns(2);
      }
      return gate.promise;
    },
    { prefetch: 2 },
  );
  await eventually(() => seen.length === 2, "two are started");
  gate.resolve();
  await worker.stop();
  expect(seen).toEqual([1, 3]);
  expect(worker.running).toBe(0);
});

test("a foreign transaction that is rolled back after the handler buried the job leaves it buried", async () => {
  using db = database({ file: true });
  const queue = db.queue("q");
  const id = queue.enqueue(1);
  using mine = new Database(db.sqlite.filename);
  const worker = queue.work((job) => {
    mine.run("BEGIN IMMEDIATE");
    job.ack({ tx: mine });
    throw new UnrecoverableError("never");
  });
  await eventually(() => mine.inTransaction, "it has run");
  await turns(1);
  mine.run("ROLLBACK");
  await eventually(() => queue.get(id)?.state === "dead", "it is buried");
  expect(worker.running).toBe(0);
  await worker.stop();
});

test("a handler that acked in time and then overran its timeout is not told of a lost claim", async () => {
  using db = database();
  const errors = reported(db);
  const queue = db.queue("q", { keepResult: true });
  const id = queue.enqueue(1);
  const gate = Promise.withResolvers<void>();
  const worker = queue.work(
    (job) => {
      job.ack();
      return gate.promise;
    },
    { timeout: "10s" },
  );
  await eventually(() => worker.running === 1, "it runs");
  db.clock.advance("10s");
  db.clock.advance("1s");
  await eventually(() => worker.running === 0, "its slot is free");
  gate.resolve();
  await worker.stop();
  await turns();
  expect(errors).toEqual([]);
  expect(queue.get(id)?.state).toBe("completed");
});

describe("claiming ahead", () => {
  test("starts what waits without a transaction for each, in order", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(Array.from({ length: 100 }, (_, n) => n));
    const seen: number[] = [];
    const before = commits.count;
    const worker = queue.work(async (job) => void seen.push(job.payload), { prefetch: 50 });
    await eventually(() => seen.length === 100, "all are run");
    await worker.stop();
    expect(commits.count - before).toBeLessThan(10);
    expect(seen).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  test("gives back, without using an attempt, what waits for longer than a moment", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2, 3]);
    const gate = Promise.withResolvers<void>();
    const worker = queue.work(() => gate.promise, { prefetch: 2 });
    await eventually(() => worker.running === 1, "one runs");
    // Another one takes over what the first had claimed ahead.
    const seen: number[] = [];
    const other = queue.work((job) => void seen.push(job.attempt));
    await eventually(() => seen.length === 2, "the other one runs them");
    expect(seen).toEqual([1, 1]);
    gate.resolve();
    await Promise.all([worker.stop(), other.stop()]);
  });

  test("gives nothing back while handlers are started, however long that goes on", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany(Array.from({ length: 30 }, (_, n) => n));
    db.sqlite.run("CREATE TABLE given_back (id)");
    db.sqlite.run(
      `CREATE TRIGGER noted AFTER UPDATE ON _honker_live WHEN old.state = 'processing' AND new.state = 'pending'
       BEGIN INSERT INTO given_back VALUES (old.id); END`,
    );
    let done = 0;
    const worker = queue.work(
      async (job) => {
        // As on a busy machine: while a handler runs the process has no turn for longer than jobs wait for one.
        if (job.payload % 2 === 1) setTimeout(() => Bun.sleepSync(15), 1);
        await new Promise((resolve) => setTimeout(resolve, 7));
        done++;
      },
      { prefetch: 30 },
    );
    await eventually(() => done === 30, "all are run");
    await worker.stop();
    expect(db.sqlite.query("SELECT id FROM given_back").all()).toEqual([]);
  });

  test("is done by itself for handlers that take microseconds, and not for those that take long", async () => {
    using commits = new Commits();
    using db = database({ file: true });
    const quick = db.queue<number>("quick");
    quick.enqueueMany(Array.from({ length: 2_000 }, (_, n) => n));
    let done = 0;
    const before = commits.count;
    const worker = quick.work(async () => void done++);
    await eventually(() => done === 2_000, "all are run");
    await worker.stop();
    expect(commits.count - before).toBeLessThan(200);
    const slow = db.queue<number>("slow");
    slow.enqueueMany(Array.from({ length: 10 }, (_, n) => n));
    const claimed: number[] = [];
    const patient = slow.work(async () => {
      claimed.push(slow.counts().processing);
      await turns(5);
    });
    await eventually(() => claimed.length === 5, "some are run");
    await patient.stop();
    expect(Math.max(...claimed)).toBe(1);
  });

  test("has its claims renewed while it waits", async () => {
    using db = database({ file: true, now: new Date("2030-01-01T00:00:00Z") });
    const queue = db.queue<number>("q", { visibilityTimeout: "30s" });
    queue.enqueueMany([1, 2, 3]);
    const left: unknown[] = [];
    const worker = queue.work(
      async () => {
        db.clock.advance("10s");
        for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve));
        left.push(
          db.sqlite.query("SELECT claim_expires_at - ? AS left FROM _honker_live").all(db.clock.now / 1_000),
        );
      },
      { prefetch: 2 },
    );
    await eventually(() => left.length === 3, "all are run");
    await worker.stop();
    expect(left[0]).toEqual([{ left: 30 }, { left: 30 }, { left: 30 }]);
  });

  test("goes back on stop without using an attempt", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    queue.enqueueMany([1, 2, 3]);
    const gate = Promise.withResolvers<void>();
    const worker = queue.work(() => gate.promise, { prefetch: 5 });
    await eventually(() => worker.running === 1, "one runs");
    const stopped = worker.stop();
    await eventually(() => queue.counts().ready === 2, "the others are given back");
    expect(queue.list({ state: "ready" }).every(({ attempts }) => attempts === 0)).toBe(true);
    gate.resolve();
    await stopped;
  });
});

describe("waitResult", () => {
  test("tells of an expired job though no worker is there to bury it", async () => {
    using db = database({ file: true });
    const queue = db.queue("q", { keepResult: true });
    const id = queue.enqueue(1, { expiresIn: "5s" });
    const result = queue.waitResult(id).catch((error) => error);
    await turns();
    db.clock.advance("6s");
    expect(await within(result, "it rejects")).toBeInstanceOf(JobExpiredError);
    expect(db.stats().wake.mode).toBe("idle");
  });

  test("knows nothing of another queue's job", async () => {
    using db = database();
    const queue = db.queue<number, string>("q", { keepResult: true });
    const id = queue.enqueue(1);
    queue.claimBatch(1)[0]?.ack({ result: "secret" });
    const result = db.queue("other", { keepResult: true }).waitResult(id);
    expect(result).rejects.toMatchObject({ code: "HONKBUN_RESULT_NOT_KEPT" });
  });
});

describe("a task's input", () => {
  test("that does not fit is refused, whatever else it could be read as", () => {
    using db = database();
    const task = db.task("t", { input: z.object({ a: z.number().optional() }) });
    for (const input of [5, "oops", null, [{ a: 1 }], new Date()]) {
      expect(() => task.enqueue(input as never)).toThrow("does not fit its schema");
    }
  });

  test("that is an empty object arrives as one", async () => {
    using db = database();
    const seen: unknown[] = [];
    db.task(
      "t",
      { input: z.record(z.string(), z.number()).optional() },
      (input) => void seen.push(input),
    ).enqueue({});
    db.queue("t").enqueue({ __honker_task__: null }, { maxAttempts: 1 });
    await using _ = db.work();
    await eventually(() => db.queue("t").counts().dead === 1, "the other is buried");
    expect(seen).toEqual([{}]);
    expect(db.queue("t").dead.list()[0]?.errors[0]?.message).toContain("is no task");
  });
});
