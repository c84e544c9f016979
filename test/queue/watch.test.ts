import { describe, expect, test } from "bun:test";

import { type JobInfo, open, type Source } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

/** What a watch has yielded: states and progress. */
function record(watch: Source<JobInfo>): { readonly seen: unknown[]; readonly ended: Promise<void> } {
  const seen: unknown[] = [];
  const ended = (async () => {
    for await (const { state, progress } of watch) seen.push(progress === null ? state : [state, progress]);
  })();
  return { seen, ended };
}

for (const file of [false, true]) {
  describe(`watch, ${file ? "on a file" : "in memory"}`, () => {
    test("yields the state now, then each change of state or progress, and ends with the job", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1, { delay: "1h" });
      const { seen, ended } = record(queue.watch(id));
      await eventually(() => seen.length === 1, "delayed");
      db.clock.advance("1h");
      await eventually(() => seen.length === 2, "ready, by time alone");
      const [job] = queue.claimBatch(1);
      await eventually(() => seen.length === 3, "processing");
      job?.progress(50);
      await eventually(() => seen.length === 4, "progress");
      job?.retry({ delay: "1s" });
      await eventually(() => seen.length === 5, "retried");
      db.clock.advance("1s");
      await eventually(() => seen.length === 6, "ready again");
      queue.claimBatch(1)[0]?.ack();
      await within(ended, "the watch ends");
      expect(seen).toEqual([
        "delayed",
        "ready",
        "processing",
        ["processing", 50],
        ["delayed", 50],
        ["ready", 50],
        ["completed", 50],
      ]);
      await eventually(() => db.stats().wake.mode === "idle", "nobody waits any more");
    });

    test("tells a slow reader the latest only", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const watch = queue.watch(queue.enqueue(1));
      expect((await watch.next()).value).toMatchObject({ state: "ready" });
      const [job] = queue.claimBatch(1);
      for (let percent = 0; percent <= 100; percent++) job?.progress(percent);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect((await watch.next()).value).toMatchObject({ state: "processing", progress: 100 });
      const next = watch.next();
      job?.progress(100); // no change
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(Bun.peek.status(next)).toBe("pending");
      job?.ack();
      expect((await within(next, "the end")).value).toMatchObject({ state: "completed" });
      expect((await watch.next()).done).toBe(true);
    });

    test("tells cancelled and expired jobs from completed ones", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const last = async (watch: Source<JobInfo>): Promise<JobInfo | undefined> => {
        let info: JobInfo | undefined;
        for await (info of watch);
        return info;
      };
      const [done, cancelled, expired] = [
        queue.enqueue(1, { priority: 1 }),
        queue.enqueue(2),
        queue.enqueue(3, { expiresIn: "1s", delay: "1h" }),
      ];
      const ends = [done, cancelled, expired].map((id) => last(queue.watch(id)));
      queue.claimBatch(1)[0]?.ack();
      queue.cancel(cancelled);
      db.clock.advance("2h");
      queue.claimBatch(1);
      expect(await within(Promise.all(ends), "all have ended")).toMatchObject([
        { id: done, state: "completed", payload: 1, errors: [] },
        { id: cancelled, state: "dead", payload: 2, errors: [{ message: "cancelled" }] },
        { id: expired, state: "dead", payload: 3, errors: [{ message: "expired" }] },
      ]);
      // also for those who ask later
      expect(await last(queue.watch(cancelled))).toMatchObject({ errors: [{ message: "cancelled" }] });
      expect(await last(queue.watch(expired))).toMatchObject({ errors: [{ message: "expired" }] });
      expect(await last(queue.watch(done))).toBeUndefined(); // nothing was kept
    });

    test("ends at once for a job that nobody knows", async () => {
      using db = database({ file });
      expect((await within(db.queue("q").watch(99).next(), "the end")).done).toBe(true);
    });

    test("ends by its signal, by break and by close", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      const controller = new AbortController();
      const { ended } = record(queue.watch(id, { signal: controller.signal }));
      controller.abort();
      await within(ended, "the end by signal");
      for await (const { state } of queue.watch(id)) {
        expect(state).toBe("ready");
        break;
      }
      await eventually(() => db.stats().wake.mode === "idle", "nobody watches any more");
      const watch = queue.watch(id);
      await watch.next();
      const next = watch.next();
      db.close();
      expect((await within(next, "the end by close")).done).toBe(true);
    });

    test("never tells what is not committed", async () => {
      using db = database({ file });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      const { seen, ended } = record(queue.watch(id));
      await eventually(() => seen.length === 1, "the first state");
      db.sqlite.run("BEGIN IMMEDIATE");
      db.sqlite.run("DELETE FROM _honker_live");
      const second = record(queue.watch(id));
      await new Promise((resolve) => setTimeout(resolve, 20));
      db.sqlite.run("ROLLBACK");
      await eventually(() => second.seen.length === 1, "a watch that began in between");
      expect([seen, second.seen]).toEqual([["ready"], ["ready"]]);
      queue.cancel(id);
      await within(Promise.all([ended, second.ended]), "both end");
    });
  });
}

describe("watch from another process", () => {
  for (const [how, end] of Object.entries({
    completed: { ack: true },
    dead: { fail: "x" },
    cancelled: { cancel: 1 },
  })) {
    test(`follows a job until it is ${how}`, async () => {
      using folder = new Folder();
      using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
      await using runner = new Process("job-runner", folder.file());
      await runner.read();
      const id = await runner.ask<number>({ enqueue: { n: 1 } });
      const watch = db.queue("q").watch(id);
      const { seen, ended } = record(watch);
      await eventually(() => seen.length === 1, "ready");
      await runner.ask({ claim: true });
      await eventually(() => seen.length === 2, "processing");
      for (const percent of [1, 2, 3]) {
        await runner.ask({ progress: { percent } });
        await eventually(() => seen.length === 2 + percent, "progress");
      }
      await runner.ask(end);
      await within(ended, "the end");
      expect(seen).toEqual([
        "ready",
        "processing",
        ...[1, 2, 3].map((percent) => ["processing", { percent }]),
        [how === "completed" ? "completed" : "dead", { percent: 3 }],
      ]);
    });
  }

  test("serves hundreds of watchers by one query for each commit", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    const ids = queue.enqueueMany(Array.from({ length: 500 }, (_, n) => n));
    const all = ids.map((id) => record(queue.watch(id)));
    await eventually(() => all.every(({ seen }) => seen.length === 1), "all have begun");
    queue.ackBatch(queue.claimBatch(500));
    await within(Promise.all(all.map(({ ended }) => ended)), "all end");
    for (const { seen } of all) expect(seen.at(-1)).toBe("completed");
  });
});

describe("watch", () => {
  test("tells by the clock alone that a delayed job has become ready", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    const queue = db.queue("q");
    const jobs = queue.watch(queue.enqueue(1, { delay: 300 }));
    expect((await within(jobs.next(), "the state now")).value.state).toBe("delayed");
    expect((await within(jobs.next(), "the next one")).value.state).toBe("ready");
  });

  test("waits for the transaction that it is called in", async () => {
    for (const file of [false, true]) {
      using db = database({ file });
      const queue = db.queue("q");
      let next: Promise<IteratorResult<unknown>> | undefined;
      db.transaction(() => {
        next = queue.watch(queue.enqueue(1)).next();
      });
      expect(await within(next as Promise<unknown>, "the state after it")).toMatchObject({
        value: { state: "ready" },
      });
    }
  });
});
