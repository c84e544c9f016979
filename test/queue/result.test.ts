import { describe, expect, test } from "bun:test";

import { z } from "zod";

import {
  JobCancelledError,
  JobExpiredError,
  JobFailedError,
  open,
  PayloadError,
  ResultNotKeptError,
  UnrecoverableError,
  WaitTimeoutError,
} from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

for (const file of [false, true]) {
  describe(`waitResult, ${file ? "on a file" : "in memory"}`, () => {
    test("resolves with the result once there is one, and at once when there is", async () => {
      using db = database({ file });
      const queue = db.queue<number, { n: number }>("q", { keepResult: "1h" });
      const id = queue.enqueue(1);
      const result = queue.waitResult(id);
      await using _ = queue.work((job) => ({ n: job.payload }));
      expect(await within(result, "the result")).toEqual({ n: 1 });
      expect(await within(queue.waitResult(id), "the result")).toEqual({ n: 1 });
      expect(db.stats().wake.mode).not.toBe("idle"); // the worker waits
    });

    test("keeps what a job.ack in a transaction was given, whatever the handler returns", async () => {
      using db = database({ file });
      const queue = db.queue<number, string>("q", { keepResult: true });
      const id = queue.enqueue(1);
      const result = queue.waitResult(id);
      await using _ = queue.work((job) => {
        db.transaction(() => job.ack({ result: "in" }));
        return "out";
      });
      expect(await within(result, "the result")).toBe("in");
    });

    test("resolves with undefined where the handler has returned nothing", async () => {
      using db = database({ file });
      const queue = db.queue<number, void>("q", { keepResult: true });
      const id = queue.enqueue(1);
      const result = queue.waitResult(id);
      await using _ = queue.work(() => {});
      expect(await within(result, "the result")).toBeUndefined();
    });

    test("yields the output of the result's schema", async () => {
      using db = database({ file });
      const queue = db.queue("q", {
        schema: z.number(),
        result: z.object({ at: z.coerce.date<Date | string>() }),
        keepResult: true,
      });
      const id = queue.enqueue(1);
      queue.claimBatch(1)[0]?.ack({ result: { at: new Date(5) } });
      expect(await queue.waitResult(id)).toEqual({ at: new Date(5) });
      const other = db.queue("q", { schema: z.number(), result: z.string(), keepResult: true });
      expect(other.waitResult(id)).rejects.toBeInstanceOf(PayloadError);
    });

    test("rejects with the errors of all attempts once the job has failed, and at once when it has", async () => {
      using db = database({ file });
      const queue = db.queue("q", { keepResult: true, maxAttempts: 2, backoff: { base: 0 } });
      const id = queue.enqueue(1);
      const result = queue.waitResult(id).catch((error) => error);
      let n = 0;
      await using _ = queue.work(() => {
        throw new Error(`no ${++n}`);
      });
      const error = (await within(result, "the failure")) as JobFailedError;
      expect(error).toBeInstanceOf(JobFailedError);
      expect(error.message).toContain("no 2");
      expect(error.errors).toMatchObject([
        { attempt: 1, message: "no 1", at: expect.any(Date), stack: expect.any(String) },
        { attempt: 2, message: "no 2" },
      ]);
      expect(queue.waitResult(id)).rejects.toMatchObject({ errors: [{ attempt: 1 }, { attempt: 2 }] });
    });

    test("tells cancelled and expired jobs from failed ones, whatever their errors say", async () => {
      using db = database({ file });
      const queue = db.queue<number>("q", { keepResult: true });
      const [cancelled = 0, expired = 0, says = 0, fails = 0] = queue.enqueueMany([1, 2, 3, 4], (_, n) =>
        n === 1 ? { expiresIn: "1s" } : {},
      );
      const results = [cancelled, expired, says, fails].map((id) =>
        queue.waitResult(id).catch((error: Error) => error.constructor),
      );
      queue.cancel(cancelled);
      db.clock.advance("5s");
      for (const job of queue.claimBatch(9)) job.fail(job.id === says ? "expired" : "cancelled");
      expect(await within(Promise.all(results), "all have ended")).toEqual([
        JobCancelledError,
        JobExpiredError,
        JobFailedError,
        JobFailedError,
      ]);
    });

    test("says at once when there is nothing to wait for", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      expect(await queue.waitResult(id).catch((error) => error)).toBeInstanceOf(ResultNotKeptError);
      queue.claimBatch(1)[0]?.ack();
      expect(await queue.waitResult(id).catch((error) => error)).toBeInstanceOf(ResultNotKeptError);
      expect(await queue.waitResult(id + 1).catch((error) => error)).toBeInstanceOf(RangeError);
      expect(await queue.waitResult(-1).catch((error) => error)).toBeInstanceOf(TypeError);
      expect(db.stats().wake.mode).toBe("idle");
    });

    test("says when a result is no longer kept, and when a worker did not keep it", async () => {
      using db = database({ file });
      const queue = db.queue<number, string>("q", { keepResult: "10s" });
      const id = queue.enqueue(1);
      queue.claimBatch(1)[0]?.ack({ result: "x" });
      db.clock.advance("1m");
      expect(await queue.waitResult(id).catch((error) => error)).toBeInstanceOf(ResultNotKeptError);
      const plain = db.queue("q").enqueue(2); // does not say so
      const waiting = queue.waitResult(plain).catch((error) => error);
      db.queue("q").claimBatch(1)[0]?.ack();
      expect(await within(waiting, "it has ended")).toBeInstanceOf(ResultNotKeptError);
    });

    test("gives up after its timeout, or with its signal, and leaves nothing behind", async () => {
      using db = database({ file });
      const queue = db.queue("q", { keepResult: true });
      const id = queue.enqueue(1);
      const timed = queue.waitResult(id, { timeout: "10s" }).catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, 5));
      db.clock.advance("9.9s");
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(Bun.peek.status(timed)).toBe("pending");
      db.clock.advance(100);
      expect(await within(timed, "it gives up")).toBeInstanceOf(WaitTimeoutError);
      const reason = new Error("enough");
      const controller = new AbortController();
      const aborted = queue.waitResult(id, { signal: controller.signal }).catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, 5));
      controller.abort(reason);
      expect(await within(aborted, "it gives up")).toBe(reason);
      const late = queue.waitResult(id, { signal: controller.signal }).catch((error) => error);
      expect(await within(late, "it gives up")).toBe(reason);
      expect(db.stats().wake.mode).toBe("idle");
    });

    test("rejects when the handle is closed", async () => {
      const db = database({ file });
      const queue = db.queue("q", { keepResult: true });
      const waiting = queue.waitResult(queue.enqueue(1)).catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, 5));
      db.close();
      expect(await within(waiting, "it rejects")).toMatchObject({ code: "HONKBUN_CLOSED" });
    });

    test("waits for a job of the transaction that it is called in", async () => {
      using db = database({ file });
      const queue = db.queue<number, number>("q", { keepResult: true });
      await using _ = queue.work((job) => job.payload);
      let result: Promise<unknown> | undefined;
      db.transaction(() => {
        result = queue.waitResult(queue.enqueue(7));
      });
      expect(await within(result as Promise<unknown>, "the result")).toBe(7);
      let rolledBack: Promise<unknown> | undefined;
      expect(() =>
        db.transaction(() => {
          rolledBack = queue.waitResult(queue.enqueue(8)).catch((error) => error);
          throw new Error("no");
        }),
      ).toThrow("no");
      expect(await rolledBack).toBeInstanceOf(RangeError);
    });

    test("goes on waiting for a job that was dead, and is tried again", async () => {
      using db = database({ file });
      const queue = db.queue<number, number>("q", { keepResult: true });
      const id = queue.enqueue(1);
      queue.claimBatch(1)[0]?.fail("no");
      queue.dead.retry("all");
      const result = queue.waitResult(id);
      queue.claimBatch(1)[0]?.ack({ result: 5 });
      expect(await within(result, "the result")).toBe(5);
    });
  });
}

describe("a result", () => {
  test("is undone with the ack when the transaction rolls back, and is committed with it", () => {
    using db = database();
    const queue = db.queue<number, string>("q", { keepResult: true });
    queue.enqueue(1);
    const [job] = queue.claimBatch(1);
    const results = (): unknown[] => db.sqlite.query("SELECT job_id, value FROM _honker_results").all();
    expect(() =>
      db.transaction(() => {
        job?.ack({ result: "x" });
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(results()).toEqual([]);
    job?.ack({ result: "x" });
    expect(results()).toEqual([{ job_id: 1, value: '"x"' }]);
  });

  test("that a honker worker has saved is resolved with", async () => {
    using db = database({ file: true });
    const queue = db.queue<number, { n: number }>("q", { keepResult: true });
    const id = queue.enqueue(1);
    const result = queue.waitResult(id);
    await new Promise((resolve) => setTimeout(resolve, 5));
    // As honker does it: first the result, then the ack, each by itself.
    db.sqlite.run("INSERT INTO _honker_results (job_id, value) VALUES (?, ?)", [id, '{"n":1}']);
    db.sqlite.run("DELETE FROM _honker_live WHERE id = ?", [id]);
    await eventually(() => {
      db.queue("other").enqueue(1); // a commit that wakes
      return Bun.peek.status(result) !== "pending";
    }, "it has resolved");
    expect(await result).toEqual({ n: 1 });
  });

  test("of a handler in another process wakes on the commit, as do a failure and a cancellation", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    await using child = new Process("result-worker", folder.file());
    await child.read();
    const queue = db.queue<string, string>("q", { keepResult: "1h" });
    const wait = (payload: string): Promise<unknown> =>
      within(
        queue.waitResult(queue.enqueue(payload)).catch((error: Error) => error.constructor),
        `the end of ${payload}`,
      );
    expect(await wait("return")).toBe("done");
    expect(await wait("throw")).toBe(JobFailedError);
    expect(await wait("cancel")).toBe(JobCancelledError);
    expect(new UnrecoverableError("x").code).toBe("HONKBUN_UNRECOVERABLE");
  });
});
