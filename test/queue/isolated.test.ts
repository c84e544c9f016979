import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";

import { z } from "zod";

import { type Honkbun, open, type Queue, type QueueOptions } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import type { Step } from "../support/handlers/scripted.ts";
import { Process } from "../support/process.ts";

const handler = (name: string): URL => new URL(`../support/handlers/${name}.ts`, import.meta.url);
const SCRIPTED = handler("scripted");

function reported(db: Honkbun): { readonly error: unknown; readonly where: string }[] {
  const errors: { readonly error: unknown; readonly where: string }[] = [];
  db.on("error", (event) => void errors.push(event));
  return errors;
}

function scripted(db: Honkbun, options?: QueueOptions): Queue<Step[], Step[], unknown> {
  return db.queue<Step[], unknown>("q", { keepResult: true, ...options });
}

const state = (queue: Queue<Step[], Step[], unknown>, id: number): string | undefined => queue.get(id)?.state;

describe("a handler in a thread of its own", () => {
  test("is given the job, and its result is kept", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using worker = queue.work(SCRIPTED);
    const id = queue.enqueue([{ do: "fields" }], { priority: 3, maxAttempts: 7 });
    expect(await within(queue.waitResult(id), "its result")).toEqual({
      id,
      queue: "q",
      attempt: 1,
      maxAttempts: 7,
      priority: 3,
      enqueuedAt: queue.get(id)?.enqueuedAt.toJSON(),
      settled: false,
      aborted: false,
    });
    expect(worker.running).toBe(0);
  });

  test("is given what the schema makes of the payload, and its result goes by the schema", async () => {
    using db = database({ file: true });
    const date = z.array(z.object({ do: z.literal("return"), value: z.coerce.date() }));
    const queue = db.queue("q", { schema: date, result: z.iso.datetime(), keepResult: true });
    await using _ = queue.work(SCRIPTED as never);
    const id = queue.enqueue([{ do: "return", value: "2030-01-01T00:00:00Z" }]);
    expect(await within(queue.waitResult(id), "its result")).toBe("2030-01-01T00:00:00.000Z");
  });

  test("is used again for the next job, and there are so many as run at once", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using _ = queue.work(SCRIPTED, { concurrency: 2 });
    const ids = queue.enqueueMany(Array.from({ length: 40 }, (): Step[] => [{ do: "thread" }]));
    const threads = await within(Promise.all(ids.map((id) => queue.waitResult(id))), "all have run");
    expect(new Set(threads).size).toBeLessThanOrEqual(2);
    expect(threads).not.toContain(0); // the main one
  });

  test("runs beside the others", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    const worker = queue.work(SCRIPTED, { concurrency: 3 });
    const ids = queue.enqueueMany(
      Array.from({ length: 3 }, (): Step[] => [{ do: "progress", value: 1 }, { do: "loop" }]),
    );
    await eventually(() => ids.every((id) => queue.get(id)?.progress === 1), "all run");
    expect(worker.running).toBe(3);
    await within(worker.stop({ timeout: 0 }), "it stops");
    expect(queue.counts()).toMatchObject({ ready: 3 });
  });

  for (const [what, error] of [
    ["plain", { message: "in the thread", stack: expect.stringContaining("scripted.ts") }],
    ["text", { message: "just text" }],
    ["caused", { message: "out of it" }],
  ] as const) {
    test(`has failed with what it throws (${what}), and its thread is used again`, async () => {
      using db = database({ file: true });
      const queue = scripted(db, { backoff: { type: "fixed", base: "1h" } });
      const told: unknown[] = [];
      db.on("job:retried", (event) => void told.push(event.error));
      await using _ = queue.work(SCRIPTED);
      const id = queue.enqueue([{ do: "throw", what }]);
      const after = queue.enqueue([{ do: "fields" }]);
      await within(queue.waitResult(after), "the next one runs");
      expect(queue.get(id)).toMatchObject({ state: "delayed", attempts: 1, errors: [error] });
      if (what === "plain") expect(told).toMatchObject([{ name: "TypeError", message: "in the thread" }]);
      if (what === "text") expect(told).toEqual(["just text"]);
      if (what === "caused")
        expect(told).toMatchObject([{ name: "RangeError", cause: { message: "deep", code: "E_DEEP" } }]);
    });
  }

  test("has no further attempts when it throws an UnrecoverableError", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using _ = queue.work(SCRIPTED);
    const id = queue.enqueue([{ do: "throw", what: "unrecoverable" }]);
    await eventually(() => state(queue, id) === "dead", "it is buried");
    expect(queue.get(id)).toMatchObject({ attempts: 1, errors: [{ message: "never again" }] });
  });

  test("has failed when its result cannot be stored, unless nobody keeps it", async () => {
    using db = database({ file: true });
    const queue = scripted(db, { backoff: { type: "fixed", base: "1h" } });
    await using worker = queue.work(SCRIPTED);
    for (const step of ["function", "cycle"] as const) {
      const id = queue.enqueue([{ do: step }]);
      await eventually(() => state(queue, id) === "delayed", "it has failed");
      expect(queue.get(id)?.errors[0]?.message).toContain("cannot be stored as JSON");
    }
    await worker.stop();
    const careless = db.queue<Step[]>("careless");
    await using _ = careless.work(SCRIPTED);
    const completed: number[] = [];
    db.on("job:completed", ({ id }) => void completed.push(id));
    const id = careless.enqueue([{ do: "function" }]);
    await eventually(() => completed.includes(id), "it is completed");
  });
});

describe("job in a thread", () => {
  test("settles, renews and tells of its progress, each before the call returns", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using _ = queue.work(SCRIPTED, { concurrency: 4 });
    const loop: Step = { do: "until aborted" };
    const renewed = queue.enqueue([{ do: "heartbeat" }, { do: "progress", value: 1 }, loop]);
    await eventually(() => queue.get(renewed)?.progress === 1, "it has renewed its claim");
    const { left } = db.sqlite
      .query("SELECT claim_expires_at - ? AS left FROM _honker_live WHERE id = ?")
      .get(db.clock.now / 1_000, renewed) as { left: number };
    expect(left).toBeGreaterThanOrEqual(7_200);
    queue.cancel(renewed);
    const acked = queue.enqueue([
      { do: "progress", value: { percent: 50 } },
      { do: "ack", value: "by ack" },
      { do: "settled" },
    ]);
    expect(await within(queue.waitResult(acked), "it is acked")).toBe("by ack");
    const progressed = queue.enqueue([{ do: "progress", value: { percent: 50 } }, loop]);
    await eventually(() => queue.get(progressed)?.progress !== null, "it tells of its progress");
    expect(queue.get(progressed)?.progress).toEqual({ percent: 50 });
    queue.cancel(progressed);
    const snoozed = queue.enqueue([{ do: "snooze" }]);
    const retried = queue.enqueue([{ do: "retry" }]);
    const failed = queue.enqueue([{ do: "fail" }]);
    await eventually(() => state(queue, failed) === "dead", "it has failed");
    await eventually(() => state(queue, retried) === "delayed", "it is retried");
    await eventually(() => state(queue, snoozed) === "delayed", "it is snoozed");
    expect(queue.get(snoozed)).toMatchObject({ attempts: 0, errors: [] });
    expect(queue.get(retried)).toMatchObject({ attempts: 1, errors: [{ message: "not now" }] });
    expect(queue.get(retried)?.runAt).toEqual(new Date(db.clock.now + 3_600_000));
    expect(queue.get(failed)).toMatchObject({ attempts: 1, errors: [{ message: "not ever" }] });
  });

  test("knows that it is settled, and throws when it is to be once more", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using _ = queue.work(SCRIPTED);
    const channel = new BroadcastChannel("twice");
    const told = new Promise<unknown>((resolve) => {
      channel.onmessage = (event) => resolve(event.data);
    });
    const id = queue.enqueue([{ do: "twice" }]);
    expect(await within(told, "the second call throws")).toEqual([
      true,
      "JobSettledError",
      "HONKBUN_JOB_SETTLED",
      `ack: job ${id} of q was settled before`,
    ]);
    channel.close();
    await eventually(() => state(queue, id) === "delayed", "it is snoozed");
  });

  test("throws once its handler has ended", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using _ = queue.work(SCRIPTED);
    queue.enqueue([{ do: "return" }]);
    const id = queue.enqueue([{ do: "late" }]);
    expect(await within(queue.waitResult(id), "it ends")).toEqual(["JobSettledError", "HONKBUN_JOB_SETTLED"]);
  });

  test("takes no tx, which would be of another thread", async () => {
    using db = database({ file: true });
    const queue = scripted(db, { maxAttempts: 1 });
    await using _ = queue.work(SCRIPTED);
    const id = queue.enqueue([{ do: "tx" }]);
    await eventually(() => state(queue, id) === "dead", "it fails");
    expect(queue.get(id)?.errors[0]?.message).toStartWith("ack: tx cannot be given in an isolated handler");
  });

  test("is aborted when it is cancelled, and one that does not listen is ended soon", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    await using worker = queue.work(SCRIPTED, { concurrency: 2 });
    const begun: Step = { do: "progress", value: "begun" };
    const polite = queue.enqueue([begun, { do: "until aborted" }]);
    const deaf = queue.enqueue([begun, { do: "loop" }]);
    for (const id of [polite, deaf])
      await eventually(() => queue.get(id)?.progress === "begun", "both have begun");
    queue.cancel(polite);
    await eventually(() => worker.running === 1, "it has stopped");
    queue.cancel(deaf);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(worker.running).toBe(1);
    db.clock.advance("1s");
    await eventually(() => worker.running === 0, "it is ended");
    const next = queue.enqueue([{ do: "thread" }]);
    await within(queue.waitResult(next), "another thread runs the next one");
  });
});

describe("an isolated handler that takes longer than its timeout", () => {
  for (const step of ["loop", "hang"] as const) {
    test(`(${step}) is ended a second later, and has failed with that`, async () => {
      using db = database({ file: true });
      const queue = scripted(db, { visibilityTimeout: "1h", backoff: { type: "fixed", base: "1h" } });
      await using worker = queue.work(SCRIPTED, { timeout: "30s" });
      const id = queue.enqueue([{ do: "progress", value: "begun" }, { do: step }]);
      await eventually(() => queue.get(id)?.progress === "begun", "it has begun");
      db.clock.advance("30s");
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(queue.get(id)?.state).toBe("processing");
      db.clock.advance("1s");
      await eventually(() => state(queue, id) === "delayed", "it has failed");
      expect(queue.get(id)?.errors).toMatchObject([
        { attempt: 1, message: expect.stringContaining("has been running for 30000 ms") },
      ]);
      await eventually(() => worker.running === 0, "its slot is free");
      const next = queue.enqueue([{ do: "thread" }]);
      await within(queue.waitResult(next), "another thread runs the next one");
    });
  }

  test("is told so first", async () => {
    using db = database({ file: true });
    const queue = scripted(db, { backoff: { type: "fixed", base: "1h" } });
    await using _ = queue.work(SCRIPTED, { timeout: "30s" });
    const id = queue.enqueue([{ do: "progress", value: "begun" }, { do: "until aborted" }]);
    await eventually(() => queue.get(id)?.progress === "begun", "it has begun");
    db.clock.advance("30s");
    await eventually(() => state(queue, id) === "delayed", "it has failed");
    expect(queue.get(id)?.errors[0]?.message).toContain("has been running for 30000 ms");
  });

  test("keeps its claim until then, and blocks nobody", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const queue = scripted(db, { visibilityTimeout: "1s" });
    const worker = queue.work(SCRIPTED);
    const id = queue.enqueue([{ do: "progress", value: "begun" }, { do: "loop" }]);
    await eventually(() => queue.get(id)?.progress === "begun", "it has begun");
    const end = Date.now() + 2_200;
    let longest = 0;
    for (let last = performance.now(); Date.now() < end;) {
      expect(queue.claimBatch(1)).toEqual([]);
      await new Promise((resolve) => setTimeout(resolve, 5));
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }
    expect(queue.get(id)).toMatchObject({ state: "processing", attempts: 1 });
    expect(longest).toBeLessThan(1_000);
    await within(worker.stop({ timeout: 0 }), "it stops");
  });
});

describe("a thread that crashes", () => {
  for (const [what, steps, message] of [
    ["by process.exit", [{ do: "exit", code: 3 }], "has ended, with exit code 3"],
    ["by process.exit(0)", [{ do: "exit", code: 0 }], "has ended, with exit code 0"],
    ["by a stray error", [{ do: "stray", what: "throw", after: 10 }, { do: "hang" }], "a stray error"],
    [
      "by a stray rejection",
      [{ do: "stray", what: "reject", after: 10 }, { do: "hang" }],
      "a stray rejection",
    ],
  ] as const) {
    test(`${what} is a failed attempt with its error, and is replaced`, async () => {
      using db = database({ file: true });
      const queue = scripted(db, { backoff: { type: "fixed", base: "1h" } });
      const errors = reported(db);
      await using _ = queue.work(SCRIPTED);
      const id = queue.enqueue([...steps]);
      await eventually(() => state(queue, id) === "delayed", "it has failed");
      expect(queue.get(id)?.errors).toMatchObject([
        { attempt: 1, message: expect.stringContaining(message) },
      ]);
      const next = queue.enqueue([{ do: "thread" }]);
      await within(queue.waitResult(next), "another thread runs the next one");
      expect(errors).toEqual([]);
    });
  }

  test("while it works on nothing is reported, and is replaced", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    const errors = reported(db);
    await using _ = queue.work(SCRIPTED);
    queue.enqueue([{ do: "stray", what: "throw", after: 50 }]);
    await eventually(() => errors.length === 1, "it is reported");
    expect(errors).toMatchObject([
      { where: "worker of q", error: { message: expect.stringContaining("a stray error") } },
    ]);
    const next = queue.enqueue([{ do: "thread" }]);
    await within(queue.waitResult(next), "another thread runs the next one");
  });

  test("costs no attempt of a job that it had not come to", async () => {
    using db = database({ file: true });
    const queue = scripted(db, { maxAttempts: 1 });
    reported(db);
    await using worker = queue.work(SCRIPTED);
    const ids: number[] = [];
    for (let n = 0; n < 60; n++) {
      const what = n % 2 === 0 ? "exit" : "throw";
      ids.push(
        queue.enqueue([
          { do: "progress", value: 1 },
          { do: "stray", what, after: 1 + (n % 5) },
        ]),
      );
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await eventually(
      () => ids.every((id) => ["completed", "dead"].includes(state(queue, id) ?? "")),
      "all ended",
    );
    const innocent = ids.filter((id) => queue.get(id)?.state === "dead" && queue.get(id)?.progress === null);
    expect(innocent).toEqual([]);
    expect(worker.running).toBe(0);
  }, 30_000);

  test("leaves what it has claimed by itself to others at once", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const queue = scripted(db, { maxAttempts: 1 });
    const other = db.queue("other");
    const held = other.enqueue(1);
    await using _ = queue.work(SCRIPTED);
    const id = queue.enqueue([
      { do: "claim", file: folder.file(), queue: "other" },
      { do: "exit", code: 1 },
    ]);
    await eventually(() => state(queue, id) === "dead", "it has crashed");
    const { value: job } = await within(other.claim().next(), "the other job is claimed", 5_000);
    expect(job).toMatchObject({ id: held, attempt: 2 });
  });
});

describe("a module that cannot be loaded", () => {
  for (const [name, message] of [
    ["broken", "this module cannot be loaded"],
    ["nameless", "must have a handler as its default export"],
    ["missing", "missing.ts"],
  ] as const) {
    test(`(${name}) is reported, and costs no attempt`, async () => {
      using db = database({ file: true });
      const queue = scripted(db);
      const errors = reported(db);
      const worker = queue.work(handler(name), { concurrency: 3 });
      const [id = 0] = queue.enqueueMany([[], [], []]);
      await eventually(() => errors.length > 0, "it is reported");
      expect(errors[0]).toMatchObject({
        where: "worker of q",
        error: { message: expect.stringContaining(message) },
      });
      const first = performance.now();
      await eventually(() => errors.length > 1, "it is tried again");
      expect(performance.now() - first).toBeGreaterThan(900);
      await worker.stop();
      expect(queue.get(id)).toMatchObject({ state: "ready", attempts: 0, errors: [] });
    });
  }

  test("in time is given up", async () => {
    using db = database({ file: true });
    const queue = scripted(db);
    const errors = reported(db);
    const worker = queue.work(handler("endless"));
    const id = queue.enqueue([]);
    await eventually(() => worker.running === 1, "it is begun with");
    expect(errors).toEqual([]);
    db.clock.advance("10s");
    await eventually(() => errors.length > 0, "it is reported");
    expect(errors[0]?.error).toMatchObject({
      message: expect.stringContaining("not loaded within 10000 ms"),
    });
    await within(worker.stop({ timeout: 0 }), "it stops");
    expect(queue.get(id)).toMatchObject({ state: "ready", attempts: 0 });
  });

  test("is not named by anything but a file's URL", () => {
    using db = database();
    expect(() => db.queue("q").work(new URL("https://example.com/handler.ts"))).toThrow(
      new TypeError(
        "work: handler must be a function, or the file: URL of a module, got https://example.com/handler.ts",
      ),
    );
  });
});

test("a call of a job in a thread waits for the write lock without blocking anybody", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = scripted(db, { maxAttempts: 1 });
  await using _ = queue.work(SCRIPTED, { concurrency: 2 });
  const warm = queue.enqueueMany([[{ do: "thread" }], [{ do: "thread" }]]);
  await within(Promise.all(warm.map((id) => queue.waitResult(id))), "the threads are there");
  const channel = new BroadcastChannel("lock");
  const held = new Promise<void>((resolve) => {
    channel.onmessage = () => resolve();
  });
  const [, waiting = 0] = queue.enqueueMany([
    [{ do: "lock", file: folder.file(), ms: 2_500 }],
    [
      { do: "block", ms: 300 },
      { do: "progress", value: 1 },
      { do: "return", value: "went on" },
    ],
  ]);
  await within(held, "the lock is held");
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  expect(await within(queue.waitResult(waiting), "it goes on")).toBe("went on");
  clearInterval(timer);
  channel.close();
  expect(longest).toBeLessThan(900);
  expect(queue.get(waiting)?.errors).toEqual([]);
});

describe("a worker with isolated handlers", () => {
  const threads = (): number =>
    readdirSync("/proc/self/task").filter((task) => {
      try {
        return readFileSync(`/proc/self/task/${task}/comm`, "utf8").startsWith("honkbun handler");
      } catch {
        return false; // it has ended
      }
    }).length;

  test("leaves no threads behind", async () => {
    for (const how of ["stop", "close", "replaced", "replaced and closed"] as const) {
      using folder = new Folder();
      const db = open(folder.file(), { wake: { safetyInterval: false } });
      const errors = reported(db);
      const queue = scripted(db);
      const worker = queue.work(SCRIPTED, { concurrency: 2 });
      const id = queue.enqueue([{ do: "thread" }]);
      await within(queue.waitResult(id), "it works");
      const looping = queue.enqueue([{ do: "progress", value: 1 }, { do: "loop" }]);
      await eventually(() => queue.get(looping)?.progress === 1, "it loops");
      expect(threads()).toBeGreaterThan(0);
      if (how === "stop") await within(worker.stop({ timeout: 0 }), "it stops");
      else if (how === "close") db.close();
      else {
        writeFileSync(folder.file("other.db"), "");
        renameSync(folder.file("other.db"), folder.file());
        if (how === "replaced") {
          const stopped = within(worker.stopped, "it stops");
          expect(stopped).rejects.toMatchObject({ code: "HONKBUN_FILE_REPLACED" });
          await stopped.catch(() => {});
          expect(errors.length).toBeGreaterThan(0);
        }
      }
      db.close();
      await eventually(() => threads() === 0, `all threads have ended: ${how}`);
    }
  });

  test("does not run what was cancelled, or given back, while the module was loaded", async () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    const ran: unknown[] = [];
    const channel = new BroadcastChannel("slow-to-load");
    channel.onmessage = (event) => void ran.push(event.data);
    const worker = queue.work(handler("slow-to-load"), { concurrency: 2 });
    const [cancelled = 0, stopped = 0] = queue.enqueueMany([1, 2]);
    await eventually(() => worker.running === 2, "they are about to run");
    queue.cancel(cancelled);
    await within(worker.stop({ timeout: 0 }), "it stops");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(ran).toEqual([]);
    expect(queue.get(stopped)).toMatchObject({ state: "ready", attempts: 0 });
    const again = queue.work(handler("slow-to-load"));
    await eventually(() => again.running === 1, "it is about to run");
    queue.cancel(stopped);
    await eventually(() => again.running === 0, "it is dropped");
    const next = queue.enqueue(3);
    await eventually(() => ran.length === 1, "the next one runs, in the thread that was loaded for it");
    await again.stop();
    expect(queue.get(next)).toBeNull();
    channel.close();
  });

  test("starts no more threads when those that are to end do not, and says so", async () => {
    using folder = new Folder();
    using db = database({ file: true });
    const queue = scripted(db, { maxAttempts: 1 });
    const errors = reported(db);
    const worker = queue.work(SCRIPTED, { timeout: "30s" });
    for (let n = 0; n < 2; n++) {
      const begun = folder.file(`begun ${n}`);
      const id = queue.enqueue([{ do: "block until", file: folder.file("go"), begun }]);
      await eventually(() => existsSync(begun), "it is blocked");
      db.clock.advance("30s");
      db.clock.advance("1s");
      await eventually(() => state(queue, id) === "dead", "it has failed");
    }
    const id = queue.enqueue([{ do: "thread" }]);
    await eventually(() => errors.length > 0, "it is reported");
    expect(errors[0]?.error).toMatchObject({ message: expect.stringContaining("2 threads of") });
    await eventually(() => queue.get(id)?.attempts === 0, "it is given back");
    writeFileSync(folder.file("go"), "");
    await within(queue.waitResult(id), "it runs once they have ended");
    await worker.stop();
  }, 30_000);

  test("gives back what runs when it is stopped in a hurry, and when it is closed", async () => {
    for (const how of ["stop", "close"] as const) {
      using folder = new Folder();
      using db = open(folder.file(), { wake: { safetyInterval: false } });
      const queue = scripted(db);
      const worker = queue.work(SCRIPTED);
      const id = queue.enqueue([{ do: "progress", value: "begun" }, { do: "loop" }]);
      await eventually(() => queue.get(id)?.progress === "begun", "it has begun");
      if (how === "stop") await within(worker.stop({ timeout: 10 }), "it stops");
      else db.close();
      using again = open(folder.file());
      expect(again.queue("q").get(id)).toMatchObject({ state: "ready", attempts: 0 });
    }
  });

  test("lets the process end once it is stopped, and keeps it alive until then", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false } });
    const queue = scripted(db);
    await using program = new Process("isolated-worker", folder.file(), SCRIPTED.href);
    await program.read();
    const id = queue.enqueue([
      { do: "progress", value: 1 },
      { do: "return", value: "done" },
    ]);
    expect(await within(queue.waitResult(id), "it works")).toBe("done");
    program.write("stop");
    expect(await within(program.exited, "the process ends")).toBe(0);
  });
});
