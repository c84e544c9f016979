import { describe, expect, test } from "bun:test";

import { ClaimLostError, type Honkbun, type Job, JobCancelledError, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

/** Resolves once the job's signal aborts, with its reason. */
function aborted(job: Job<unknown>): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const { signal } = job;
  if (signal.aborted) resolve(signal.reason);
  signal.addEventListener("abort", () => resolve(signal.reason));
  return promise;
}

function reported(db: Honkbun): unknown[] {
  const errors: unknown[] = [];
  db.on("error", ({ error }) => void errors.push(error));
  return errors;
}

const turns = async (): Promise<void> => {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setTimeout(resolve, 2));
};

for (const file of [false, true]) {
  describe(`a handler that takes longer than its timeout, ${file ? "on a file" : "in memory"}`, () => {
    test("is told by job.signal, and has failed with that when it throws", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      let reason: unknown;
      const worker = queue.work(
        async (job) => {
          reason = await aborted(job);
          job.signal.throwIfAborted();
        },
        { timeout: "30s" },
      );
      await eventually(() => worker.running === 1, "it runs");
      db.clock.advance("29.9s");
      await turns();
      expect(reason).toBeUndefined();
      db.clock.advance(100);
      await eventually(() => queue.get(id)?.state === "delayed", "it is retried");
      expect(reason).toMatchObject({ code: "HONKBUN_JOB_TIMEOUT" });
      expect(queue.get(id)?.errors).toMatchObject([
        { attempt: 1, message: expect.stringContaining("has been running for 30000 ms") },
      ]);
      await worker.stop();
    });

    test("has failed with that also when all it knows is that it was aborted", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      const worker = queue.work(
        async (job) => {
          await aborted(job);
          throw new DOMException("The operation was aborted.", "AbortError");
        },
        { timeout: "30s" },
      );
      await eventually(() => worker.running === 1, "it runs");
      db.clock.advance("30s");
      await eventually(() => queue.get(id)?.state === "delayed", "it is retried");
      expect(queue.get(id)?.errors[0]?.message).toContain("has been running");
      await worker.stop();
    });

    test("has not failed when it finishes all the same", async () => {
      using db = database({ file });
      const queue = db.queue("q", { keepResult: true });
      const id = queue.enqueue(1);
      const worker = queue.work(
        async (job) => {
          await aborted(job);
          return "in time";
        },
        { timeout: "30s" },
      );
      await eventually(() => worker.running === 1, "it runs");
      db.clock.advance("30s");
      await eventually(() => queue.get(id)?.state === "completed", "it is completed");
      expect(queue.get(id)).toMatchObject({ result: "in time", errors: [] });
      await worker.stop();
    });

    test("and does not end after that either, has failed a second later; its slot is free, and what it does late is told", async () => {
      using db = database({ file });
      const errors = reported(db);
      const queue = db.queue<number>("q", { keepResult: true });
      const [stuck = 0, other = 0] = queue.enqueueMany([1, 2]);
      const gate = Promise.withResolvers<string>();
      const worker = queue.work((job) => (job.payload === 1 ? gate.promise : "done"), { timeout: "30s" });
      await eventually(() => worker.running === 1, "it runs");
      db.clock.advance("30s");
      await turns();
      expect(queue.get(stuck)?.state).toBe("processing");
      db.clock.advance("1s");
      await eventually(() => queue.get(other)?.state === "completed", "the other one is run");
      expect(queue.get(stuck)).toMatchObject({ state: "delayed", errors: [{ attempt: 1 }] });
      expect(errors).toEqual([]);
      gate.resolve("late");
      await eventually(() => errors.length === 1, "it is told");
      expect(errors).toEqual([expect.any(ClaimLostError)]);
      await worker.stop();
      expect(queue.get(stuck)?.state).toBe("delayed");
    });
  });

  describe(`a handler whose job is taken from it, ${file ? "on a file" : "in memory"}`, () => {
    test("is told by job.signal of a cancellation; what it throws then is nobody's business", async () => {
      using db = database({ file });
      const errors = reported(db);
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      let reason: unknown;
      const worker = queue.work(async (job) => {
        reason = await aborted(job);
        throw reason;
      });
      await eventually(() => worker.running === 1, "it runs");
      queue.cancel(id);
      await eventually(() => worker.running === 0, "it has ended");
      expect(reason).toBeInstanceOf(JobCancelledError);
      await worker.stop();
      expect(errors).toEqual([]);
      expect(queue.get(id)).toMatchObject({ state: "dead", errors: [{ message: "cancelled" }] });
    });

    test("and that finishes all the same learns that it was in vain", async () => {
      using db = database({ file });
      const errors = reported(db);
      const completed: unknown[] = [];
      db.on("job:completed", (event) => void completed.push(event));
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(() => gate.promise);
      await eventually(() => worker.running === 1, "it runs");
      queue.cancel(id);
      gate.resolve();
      await eventually(() => errors.length === 1, "it is told");
      await worker.stop();
      expect(errors).toEqual([expect.any(ClaimLostError)]);
      expect(String(errors[0])).toContain("was cancelled");
      expect(completed).toEqual([]);
    });

    test("is told at the next renewal when it was taken over, and its outcome changes nothing", async () => {
      using db = database({ file, now: new Date("2030-01-01T00:00:00Z") });
      const errors = reported(db);
      const queue = db.queue("q", { visibilityTimeout: "30s" });
      const id = queue.enqueue(1);
      let reason: unknown;
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(async (job) => {
        reason = await aborted(job);
        await gate.promise;
      });
      await eventually(() => worker.running === 1, "it runs");
      // As another worker takes over whose clock is ahead.
      db.sqlite.run("UPDATE _honker_live SET worker_id = 'other', attempts = 2");
      db.clock.advance("10s");
      await eventually(() => reason !== undefined, "it is told");
      expect(reason).toBeInstanceOf(ClaimLostError);
      gate.resolve();
      await eventually(() => errors.length === 1, "it is told again, by the event");
      await worker.stop();
      expect(queue.get(id)).toMatchObject({ state: "processing", attempts: 2 });
    });

    test("without knowing it, learns it from its outcome, which changes nothing", async () => {
      for (const fails of [false, true]) {
        using db = database({ file });
        const errors = reported(db);
        const events: unknown[] = [];
        for (const name of ["job:completed", "job:retried", "job:dead"] as const) {
          db.on(name, (event) => void events.push(event));
        }
        const queue = db.queue("q");
        const id = queue.enqueue(1);
        const worker = queue.work(() => {
          db.sqlite.run("UPDATE _honker_live SET worker_id = 'other'");
          if (fails) throw new Error("no");
        });
        await eventually(() => errors.length === 1, "it is told");
        await worker.stop();
        expect(errors).toEqual([expect.any(ClaimLostError)]);
        expect((errors[0] as Error).cause).toEqual(fails ? new Error("no") : undefined);
        expect(events).toEqual([]);
        expect(queue.get(id)).toMatchObject({ state: "processing", errors: [] });
      }
    });

    test("whose claim expired, while nobody took over, still counts", async () => {
      using db = database({ file });
      const queue = db.queue("q", { visibilityTimeout: "30s", keepResult: true });
      const id = queue.enqueue(1);
      const gate = Promise.withResolvers<void>();
      const worker = queue.work(() => gate.promise);
      await eventually(() => worker.running === 1, "it runs");
      db.sqlite.run("UPDATE _honker_live SET state = 'pending', claim_expires_at = 1"); // as a sweep frees it
      gate.resolve();
      await eventually(() => queue.get(id)?.state === "completed", "it is completed");
      await worker.stop();
      expect(queue.get(id)?.attempts).toBe(1);
    });
  });
}

test("a worker is told at once of a cancellation by another process", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
  await using runner = new Process("job-runner", folder.file());
  await runner.read();
  const id = db.queue("q").enqueue(1);
  const told = Promise.withResolvers<unknown>();
  await using worker = db.queue("q").work(async (job) => told.resolve(await aborted(job)));
  await eventually(() => worker.running === 1, "it runs");
  expect(await runner.ask({ cancel: id })).toBe(true);
  expect(await within(told.promise, "the handler is told")).toBeInstanceOf(JobCancelledError);
});
