import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { utimesSync } from "node:fs";

import { open } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

// Each source of a wake where no other can help. File events alone: commits.test.ts.
const SAFETY_OFF = { safetyInterval: false } as const;

describe("a wake", () => {
  test("comes from an own commit alone", async () => {
    using db = open(":memory:", { wake: SAFETY_OFF }); // where no file is watched
    const jobs = db.queue<number>("q").claim();
    const next = jobs.next();
    await eventually(() => db.stats().wake.mode === "memory", "the loop waits");
    db.queue<number>("q").enqueue(1);
    expect((await within(next, "the job is claimed")).value.payload).toBe(1);
  });

  test("comes from a commit of the library's own loops", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { ...SAFETY_OFF, mode: "watch" } });
    const queue = db.queue<number>("q");
    const next = queue.claim().next();
    await new Promise((resolve) => setTimeout(resolve, 20)); // it has found nothing, and waits
    const watched = await queue.enqueueAsync(5);
    expect((await within(next, "the job is claimed")).value.id).toBe(watched);
    const states: string[] = [];
    const work = db.queue<number>("r", { keepResult: true });
    const id = work.enqueue(1);
    await using _ = work.work(() => {});
    for await (const { state } of work.watch(id)) states.push(state);
    expect(states.at(-1)).toBe("completed");
  });

  test("comes from a due time alone", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { ...SAFETY_OFF, mode: "watch" } });
    const queue = db.queue<number>("q");
    queue.enqueue(1, { delay: 1_500 });
    const due = Date.now() + 1_400;
    const { value: job } = await within(queue.claim().next(), "the job is claimed when due");
    expect(Date.now()).toBeGreaterThanOrEqual(due);
    expect(job.payload).toBe(1);
  });

  test("comes from an expired claim alone", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { ...SAFETY_OFF, mode: "watch" } });
    const queue = db.queue<number>("q");
    queue.enqueue(1);
    const [lost] = queue.claimBatch(1, { visibilityTimeout: "1s" });
    const { value: job } = await within(queue.claim().next(), "the job is claimed again");
    expect(job).toMatchObject({ id: lost?.id, attempt: 2 });
  });

  test("comes from the safety look alone", async () => {
    using db = open(":memory:", { wake: { safetyInterval: "20ms" } });
    const seen: unknown[] = [];
    using _ = db.listen("c", (notification) => void seen.push(notification.payload));
    db.sqlite.run("INSERT INTO _honker_notifications (channel, payload) VALUES ('c', '1')"); // behind honkbun's back
    await eventually(() => seen.length === 1, "plain SQL on the own handle is seen");
  });

  test("comes for a send on a transaction that the application commits later", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { ...SAFETY_OFF, mode: "watch" } });
    const seen: unknown[] = [];
    using _ = db.listen("c", (notification) => void seen.push(notification.payload));
    db.sqlite.run("BEGIN IMMEDIATE");
    db.notify("c", 1, { tx: db.sqlite });
    await eventually(() => db.stats().wake.looks > 0, "something was looked at meanwhile");
    const { rings } = db.stats().wake;
    expect(seen).toEqual([]);
    db.sqlite.run("COMMIT");
    await eventually(() => seen.length === 1, "it is seen after the commit");
    await eventually(
      () => db.stats().wake.rings > rings,
      "other processes are rung for it, however slow the disk",
    );
  });

  test("is prepared for only while somebody waits", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    expect(db.stats().wake.mode).toBe("idle");
    const subscription = db.listen("c", () => {});
    await eventually(() => db.stats().wake.mode === "watch", "the first event confirms the watch");
    subscription[Symbol.dispose]();
    expect(db.stats().wake.mode).toBe("idle");
  });
});

describe("where the system gives no file events", () => {
  for (const how of ["silent", "refused", "lost"]) {
    test(`polling takes over: watches are ${how}`, async () => {
      using folder = new Folder();
      await using deaf = new Process("deaf-listener", folder.file(), how);
      expect(await deaf.read<string>()).toBe("listening");
      if (how === "lost") expect(await deaf.read<string>()).toBe("an event came");
      await using writer = new Process("foreign-writer", folder.file());
      for (let sent = 0; sent < 10; sent++) {
        await writer.ask({ notify: "c" });
        expect(await deaf.read()).toEqual({ mode: "poll", events: how === "lost" ? 1 : 0 });
      }
    });
  }
});

describe("a worker that writes all the time", () => {
  test("does not watch its own writes, notices those of others, and watches again when it is done", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: SAFETY_OFF });
    await using runner = new Process("job-runner", folder.file());
    await runner.read();
    const told = Promise.withResolvers<unknown>();
    const [slow = 0, waiting = 0] = db.queue("q").enqueueMany([1, 2]);
    db.queue("q").work(async ({ signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      told.resolve(signal.reason);
      throw signal.reason;
    });
    const busy = db.queue<number>("busy");
    busy.enqueueMany(Array.from({ length: 200_000 }, (_, n) => n));
    const worker = busy.work(async () => {}, { prefetch: 0 });
    await eventually(() => db.stats().wake.mode === "watch", "it watches");
    await eventually(() => db.stats().wake.mode === "poll", "it is busy");
    expect(await runner.ask({ cancel: slow })).toBe(true);
    expect(await within(told.promise, "the cancellation is noticed")).toMatchObject({
      code: "HONKBUN_JOB_CANCELLED",
    });
    expect(busy.counts().ready).toBeGreaterThan(0);
    await worker.stop();
    await eventually(() => db.stats().wake.mode === "watch", "it watches again");
    const { events } = db.stats().wake;
    await runner.ask({ cancel: waiting });
    await eventually(() => db.stats().wake.events > events, "it sees what others write");
    await db.shutdown();
  }, 30_000);
});

describe("a process that finds the write lock taken again and again", () => {
  test("does not watch what others write, notices it all the same, and watches again when it has written", async () => {
    using folder = new Folder();
    await using db = open(folder.file(), { wake: SAFETY_OFF });
    using other = new Database(folder.file());
    const heard: unknown[] = [];
    db.listen("channel", ({ payload }) => heard.push(payload));
    await eventually(() => db.stats().wake.mode === "watch", "it watches");
    const notify = other.prepare(
      "INSERT INTO _honker_notifications (channel, payload) VALUES ('channel', ?)",
    );
    for (let n = 0; n < 3; n++) {
      other.run("BEGIN IMMEDIATE");
      const stored = db.queue("q").enqueueAsync(n);
      await eventually(() => {
        utimesSync(`${folder.file()}-wal`, new Date(), new Date());
        return db.stats().wake.mode === "poll";
      }, "it polls while it waits for the lock");
      notify.run(`${n}`);
      other.run("COMMIT");
      await eventually(() => heard.length > n, "it hears what was written meanwhile");
      await stored;
      await eventually(() => db.stats().wake.mode === "watch", "it watches again");
    }
    expect(heard).toEqual([0, 1, 2]);
  });
});
