import { describe, expect, test } from "bun:test";

import { type Job, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const turns = async (): Promise<void> => {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setTimeout(resolve, 2));
};

for (const file of [false, true]) {
  describe(`a worker that is stopped, ${file ? "on a file" : "in memory"}`, () => {
    test("lets handlers finish, and claims nothing more", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { keepResult: true });
      queue.enqueueMany([1, 2, 3]);
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(() => gate.promise, { concurrency: 2 });
      await eventually(() => worker.running === 2, "two run");
      const stopped = worker.stop();
      await turns();
      expect(Bun.peek.status(stopped)).toBe("pending");
      expect(Bun.peek.status(worker.stopped)).toBe("pending");
      gate.resolve();
      await within(stopped, "it has stopped");
      await within(worker.stopped, "it has stopped");
      expect(queue.counts()).toMatchObject({ ready: 1, completed: 2, processing: 0 });
      expect(db.stats().wake.mode).toBe("idle"); // nothing keeps the process alive
      await worker.stop(); // idempotent
    });

    test("aborts at the deadline what still runs, and gives it back without using an attempt", async () => {
      using db = database({ file });
      const queue = db.queue<string>("q", { keepResult: true });
      queue.enqueueMany(["obeys", "ignores", "finishes"]);
      const reasons: unknown[] = [];
      const worker = queue.work(
        (job) => {
          const { promise, resolve, reject } = Promise.withResolvers<string>();
          job.signal.addEventListener("abort", () => {
            reasons.push(job.signal.reason);
            if (job.payload === "obeys") reject(job.signal.reason);
            if (job.payload === "finishes") resolve("done");
          });
          return promise;
        },
        { concurrency: 3 },
      );
      await eventually(() => worker.running === 3, "all run");
      await within(worker.stop({ timeout: 20 }), "it has stopped");
      expect(reasons).toMatchObject(Array.from({ length: 3 }, () => ({ code: "HONKBUN_WORKER_STOPPED" })));
      expect(queue.list()).toMatchObject([
        { payload: "obeys", state: "ready", attempts: 0, errors: [] },
        { payload: "ignores", state: "ready", attempts: 0, errors: [] },
        { payload: "finishes", state: "completed", attempts: 1, result: "done" },
      ]);
    });

    test("may be given less time by a second call", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      queue.enqueue(1);
      const worker = queue.work(() => new Promise(() => {}));
      await eventually(() => worker.running === 1, "it runs");
      const patient = worker.stop({ timeout: "30d" });
      await within(worker.stop({ timeout: 0 }), "it has stopped");
      await patient;
      expect(queue.counts()).toMatchObject({ ready: 1, processing: 0 });
    });

    test("is stopped by its signal, or at the end of its scope", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { keepResult: true });
      queue.enqueueMany([1, 2]);
      const controller = new AbortController();
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(() => gate.promise, { signal: controller.signal });
      await eventually(() => worker.running === 1, "it runs");
      controller.abort();
      setTimeout(() => gate.resolve(), 5);
      await within(worker.stopped, "it has stopped");
      expect(queue.counts()).toMatchObject({ ready: 1, completed: 1 });
      {
        await using other = queue.work(() => turns());
        await eventually(() => other.running === 1, "it runs");
      }
      expect(queue.counts()).toMatchObject({ ready: 0, completed: 2 });
    });

    test("gives back what it had claimed and not yet started", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { keepResult: true });
      queue.enqueueMany(Array.from({ length: 10 }, (_, n) => n));
      let runs = 0;
      const worker = queue.work(
        () => {
          runs++;
          Bun.sleepSync(3);
        },
        { concurrency: 10 },
      );
      await eventually(() => runs > 0, "some run");
      await within(worker.stop(), "it has stopped");
      expect(runs).toBeLessThan(10);
      expect(queue.counts()).toMatchObject({ ready: 10 - runs, completed: runs, processing: 0 });
      expect(queue.list({ state: "ready" }).every(({ attempts }) => attempts === 0)).toBe(true);
    });

    test("by one of its own handlers starts no other", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { keepResult: true });
      queue.enqueueMany([1, 2, 3]);
      let runs = 0;
      const worker = queue.work(
        () => {
          runs++;
          void worker.stop();
        },
        { concurrency: 3 },
      );
      await within(worker.stopped, "it has stopped");
      expect(runs).toBe(1);
      expect(queue.counts()).toMatchObject({ ready: 2, completed: 1, processing: 0 });
    });
  });

  describe(`shutdown, ${file ? "on a file" : "in memory"}`, () => {
    test("lets handlers and the bodies of claim loops finish, then closes", async () => {
      const db = database({ file: true });
      const queue = db.queue<number>("q");
      const other = db.queue<number>("other");
      queue.enqueueMany([1, 2]);
      other.enqueueMany([1, 2]);
      const ended: string[] = [];
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(async () => {
        await gate.promise;
        ended.push("handler");
      });
      const looped = Promise.withResolvers<Job<number>>();
      const loop = (async () => {
        for await (const job of other.claim()) {
          looped.resolve(job);
          await gate.promise;
          job.ack();
          ended.push("body");
        }
      })();
      await within(looped.promise, "the loop runs");
      await eventually(() => worker.running === 1, "the worker runs");
      const down = db.shutdown({ timeout: "20s" });
      await turns();
      expect(Bun.peek.status(down)).toBe("pending");
      const counted = { worker: 0, loop: 0 };
      gate.resolve();
      queue.enqueue(3); // still open
      await eventually(() => ended.length === 2, "both have finished");
      counted.worker = 1;
      await within(down, "it is shut down");
      await within(loop, "the loop has ended");
      await worker.stopped;
      expect(ended.sort()).toEqual(["body", "handler"]);
      expect(() => queue.enqueue(1)).toThrow("closed");
      await db.shutdown(); // idempotent
    });

    test("aborts at the deadline what still runs, gives it back, and closes", async () => {
      using folder = new Folder();
      const db = open(folder.file());
      const queue = db.queue<number>("q");
      queue.enqueueMany([1, 2]);
      const worker = queue.work(() => new Promise(() => {}));
      const jobs = queue.claim();
      await within(jobs.next(), "the loop runs");
      await eventually(() => worker.running === 1, "the worker runs");
      await within(db.shutdown({ timeout: 20 }), "it is shut down");
      using again = open(folder.file());
      expect(again.queue("q").list()).toMatchObject([
        { state: "ready", attempts: 0 },
        { state: "ready", attempts: 0 },
      ]);
      await within(worker.stopped, "the worker knows");
    });

    test("refuses what is no duration", async () => {
      using db = database({ file });
      expect(db.shutdown({ timeout: "5 s" as never })).rejects.toThrow("shutdown: timeout");
      expect(db.shutdown({ time: 5 } as never)).rejects.toThrow("shutdown: unknown option time");
    });
  });
}

describe("close", () => {
  test("in mid-work aborts what runs, gives it back, and keeps what has ended", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    const queue = db.queue<string>("q", { keepResult: true });
    queue.enqueueMany(["runs", "ends", "fails"]);
    const gate = Promise.withResolvers<void>();
    let reason: unknown;
    const worker = queue.work(
      async (job) => {
        if (job.payload === "runs") {
          job.signal.addEventListener("abort", () => {
            reason = job.signal.reason;
          });
          await new Promise(() => {});
        }
        await gate.promise;
        if (job.payload === "fails") throw new Error("no");
        return "done";
      },
      { concurrency: 3 },
    );
    await eventually(() => worker.running === 3, "all run");
    gate.resolve();
    while (worker.running > 1) await Promise.resolve(); // they have ended, and nothing is written yet
    db.close();
    await within(worker.stopped, "the worker knows");
    expect(reason).toMatchObject({ code: "HONKBUN_CLOSED" });
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject([
      { payload: "runs", state: "ready", attempts: 0 },
      { payload: "ends", state: "completed", result: "done" },
      { payload: "fails", state: "delayed", errors: [{ message: "no" }] },
    ]);
  });

  test("by a handler ends its worker, and its own job is given back", async () => {
    using folder = new Folder();
    const db = open(folder.file());
    db.queue("q").enqueue(1);
    const worker = db.queue("q").work(() => db.close());
    await within(worker.stopped, "the worker knows");
    using again = open(folder.file());
    expect(again.queue("q").list()).toMatchObject([{ state: "ready", attempts: 0 }]);
  });
});

test("a worker whose file is replaced stops, and says why", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  const errors: unknown[] = [];
  db.on("error", ({ error }) => void errors.push(error));
  const queue = db.queue("q");
  queue.enqueue(1);
  let reason: unknown;
  const worker = queue.work((job) => {
    job.signal.addEventListener("abort", () => {
      reason = job.signal.reason;
    });
    return new Promise(() => {});
  });
  await eventually(() => worker.running === 1, "it runs");
  const { renameSync } = await import("node:fs");
  open(folder.file("other.db")).close();
  renameSync(folder.file("other.db"), folder.file());
  expect(within(worker.stopped, "it has stopped")).rejects.toMatchObject({ code: "HONKBUN_FILE_REPLACED" });
  await eventually(() => errors.length > 0, "it is reported");
  await eventually(() => reason !== undefined, "the handler is told");
  expect(reason).toMatchObject({ code: "HONKBUN_FILE_REPLACED" });
});

describe("with signals: true", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`${signal} lets handlers finish, and the process end`, async () => {
      using folder = new Folder();
      using db = open(folder.file());
      db.queue<string>("q").enqueueMany(["slow", "slow"]);
      await using child = new Process("signal-worker", folder.file());
      expect(await child.read()).toBe("running");
      child.kill(signal);
      expect(await child.read()).toBe("told");
      child.write("finish");
      expect(await child.read()).toBe("stopped");
      expect(await within(child.exited, "the process has ended")).toBe(0);
      expect(db.queue("q").counts()).toMatchObject({ ready: 1, processing: 0 });
      expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_live").get()).toEqual({ n: 1 });
    });
  }

  test("a second one gives back what runs, and ends the process at once", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.queue<string>("q").enqueueMany(["slow", "slow"]);
    await using child = new Process("signal-worker", folder.file());
    expect(await child.read()).toBe("running");
    child.kill("SIGTERM");
    expect(await child.read()).toBe("told");
    child.kill("SIGTERM");
    expect(await within(child.exited, "the process has ended")).toBe(143);
    expect(db.queue("q").list()).toMatchObject([
      { state: "ready", attempts: 0 },
      { state: "ready", attempts: 0 },
    ]);
  });
});
