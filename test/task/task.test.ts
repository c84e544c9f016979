import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, JobFailedError, open, PayloadError, ResultNotKeptError } from "../../src/index.ts";
import { drain } from "../../src/testing/index.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const stored = (db: Honkbun): unknown[] =>
  db.sqlite
    .query<{ payload: string }, []>("SELECT payload FROM _honker_live ORDER BY id")
    .all()
    .map(({ payload }) => JSON.parse(payload).__honker_task__);

describe("a task", () => {
  test("is enqueued in honker's envelope, objects by name and other inputs by position", () => {
    using db = database();
    db.task("object", { input: z.object({ to: z.string() }) }).enqueue({ to: "a" });
    db.task("text", { input: z.string() }).enqueue("a");
    db.task("list", { input: z.array(z.number()) }).enqueue([1, 2]);
    db.task("date", { input: z.coerce.date<Date | string>() }).enqueue(new Date(0));
    db.task("null", { input: z.null() }).enqueue(null);
    db.task("nothing", {}).enqueue();
    expect(stored(db)).toEqual([
      { task: "object", args: [], kwargs: { to: "a" } },
      { task: "text", args: ["a"], kwargs: {} },
      { task: "list", args: [[1, 2]], kwargs: {} },
      { task: "date", args: ["1970-01-01T00:00:00.000Z"], kwargs: {} },
      { task: "null", args: [null], kwargs: {} },
      { task: "nothing", args: [], kwargs: {} },
    ]);
    expect(db.queue("object").counts().ready).toBe(1); // its queue has its name
  });

  test("gives its handler the input as it was, through its schema", async () => {
    using db = database();
    const seen: unknown[] = [];
    const see = (input: unknown): void => void seen.push(input);
    db.task("object", { input: z.object({ to: z.string() }) }, see).enqueue({ to: "a" });
    db.task("text", { input: z.string() }, see).enqueue("a");
    db.task("list", { input: z.array(z.number()) }, see).enqueue([1, 2]);
    db.task("date", { input: z.coerce.date<Date | string>() }, see).enqueue(new Date(0));
    db.task("null", { input: z.null() }, see).enqueue(null);
    db.task("empty", { input: z.object({ a: z.string().optional() }) }, see).enqueue({});
    db.task("nothing", {}, see).enqueue();
    expect(await drain(db)).toHaveLength(7);
    const expected = ["a", new Date(0), [1, 2], {}, { to: "a" }, null, undefined];
    for (const input of expected) expect(seen).toContainEqual(input);
  });

  test("resolves with its output, typed by the schema, and keeps it for an hour", async () => {
    using db = database();
    const double = db.task("double", { input: z.number(), output: z.number() }, (n) => n * 2);
    await using _ = db.work();
    const run = double.enqueue(4);
    const result: number = await within(run.result(), "the result");
    expect(result).toBe(8);
    expect(await double.job(run.id).result()).toBe(8);
    expect(await within(double.run(5), "the result")).toBe(10);
    expect(run.get()).toMatchObject({ state: "completed", payload: 4, result: 8 });
    db.clock.advance("2h");
    expect(await run.result().catch((error) => error)).toBeInstanceOf(ResultNotKeptError);
  });

  test("fails with the errors of its attempts", async () => {
    using db = database();
    const task = db.task("t", { maxAttempts: 2, backoff: { base: 0 } }, () => {
      throw new Error("no");
    });
    await using _ = db.work();
    const error = await within(
      task.run().catch((failure) => failure),
      "the failure",
    );
    expect(error).toBeInstanceOf(JobFailedError);
    expect(error.errors).toHaveLength(2);
  });

  test("is sent from where it has no handler, and run where it has, in another process", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    await using child = new Process("task-worker", folder.file());
    await child.read();
    const add = db.task("add", { input: z.object({ a: z.number(), b: z.number() }), output: z.number() });
    expect(await within(add.run({ a: 1, b: 2 }), "the sum")).toBe(3);
    const states: unknown[] = [];
    const run = add.enqueue({ a: 3, b: 4 });
    for await (const { state, progress } of run.watch()) states.push([state, progress]);
    expect(states.at(-1)).toEqual(["completed", { half: 3 }]);
  });

  test("takes positional arguments from elsewhere, which reach job.args", async () => {
    using db = database();
    const seen: unknown[] = [];
    db.task("python", {}, (input, job) => void seen.push([input, job.args, job.payload]));
    db.task("one", { input: z.string() }, (input, job) => void seen.push([input, job.args]));
    db.task(
      "both",
      { input: z.object({ c: z.number() }) },
      (input, job) => void seen.push([input, job.args]),
    );
    const send = (task: string, args: unknown[], kwargs: unknown): void => {
      db.queue(task).enqueue({ __honker_task__: { task, args, kwargs } });
    };
    send("python", [1, "two"], {});
    send("one", ["x"], {});
    send("both", [1, 2], { c: 3 });
    await drain(db);
    expect(seen).toEqual([
      [{}, [1, "two"], {}],
      ["x", ["x"]],
      [{ c: 3 }, [1, 2]],
    ]);
  });

  test("stores nothing that does not fit its input's schema", () => {
    using db = database();
    const task = db.task("t", { input: z.object({ n: z.number() }) });
    expect(() => task.enqueue({ n: "x" } as never)).toThrow(PayloadError);
    expect(() => task.enqueue({ n: "x" } as never)).toThrow("n: ");
    expect(() => task.enqueueMany([{ n: 1 }, { n: "x" } as never])).toThrow("(payload 1)");
    expect(stored(db)).toEqual([]);
  });

  test("buries a stored input that does not fit any more, and goes on", async () => {
    using db = database();
    db.queue("t").enqueue({ __honker_task__: { task: "t", args: [], kwargs: { n: "x" } } });
    const seen: unknown[] = [];
    const task = db.task("t", { input: z.object({ n: z.number() }) }, ({ n }) => void seen.push(n));
    task.enqueue({ n: 1 });
    const ran = await drain(db);
    expect(ran.map(({ outcome }) => outcome)).toEqual(["dead", "completed"]);
    expect(seen).toEqual([1]);
    expect(task.queue.dead.list()[0]?.errors[0]?.message).toContain("n: ");
  });

  test("is enqueued many at once, with its defaults", () => {
    using db = database();
    const task = db.task("t", {
      input: z.object({ n: z.number() }),
      priority: 5,
      maxAttempts: 7,
      queue: "jobs",
    });
    const ids = task.enqueueMany([{ n: 1 }, { n: 2 }], ({ n }) => (n === 2 ? { priority: 9 } : {}));
    expect(task.queue.list()).toMatchObject([
      { id: ids[0], queue: "jobs", priority: 5, maxAttempts: 7 },
      { id: ids[1], priority: 9 },
    ]);
    task.enqueue({ n: 3 });
    expect(task.queue.list().at(-1)).toMatchObject({ priority: 5 });
  });

  test("commits with the application's transaction, and can be cancelled", async () => {
    using db = database();
    const task = db.task("t", {});
    const run = db.transaction(() => task.enqueue());
    expect(run.get()?.state).toBe("ready");
    expect(run.cancel()).toBe(true);
    expect(run.cancel()).toBe(false);
    expect(run.result()).rejects.toMatchObject({ code: "HONKBUN_JOB_CANCELLED" });
  });

  test("has one handler, whoever gives it", () => {
    using db = database();
    const task = db.task("t", {}, () => {});
    expect(() => task.handle(() => {})).toThrow("task: t has a handler already");
    expect(() => db.task("t", { queue: "other" }, () => {})).toThrow("task: t has a handler already");
    db.task("t", {}); // the contract alone may be had again
  });

  test("refuses bad arguments", () => {
    using db = database();
    const bad: [unknown, unknown, string][] = [
      ["", {}, "task: name"],
      ["t", { queue: "" }, "task: queue"],
      ["t", { timeout: 0 }, "task: timeout must be more than 0"],
      ["t", { priority: 101 }, "task: priority"],
      ["t", { schema: z.string() }, "task: unknown option schema"],
      ["t", { input: 5 }, "task: input"],
      ["t", { attempts: 5 }, "task: unknown option attempts"],
      ["t", { maxAttempts: 0 }, "task: maxAttempts"],
    ];
    for (const [name, options, message] of bad) {
      expect(() => db.task(name as string, options as never)).toThrow(message);
    }
    expect(() => db.task("t", {}).handle(5 as never)).toThrow("task.handle: handler must be a function");
    expect(() => db.task("t", {}).enqueueMany(5 as never)).toThrow("enqueueMany: inputs must be iterable");
  });
});

describe("db.work", () => {
  test("runs the tasks that have handlers, those that get one later as well, and no others", async () => {
    using db = database();
    const seen: string[] = [];
    const [one, two, three] = ["one", "two", "three"].map((name) => db.task(name, {}));
    one?.handle(() => void seen.push("one"));
    for (const task of [one, two, three]) task?.enqueue();
    await using _ = db.work();
    await eventually(() => seen.length === 1, "the first is run");
    two?.handle(() => void seen.push("two"));
    await eventually(() => seen.length === 2, "the second is run");
    expect(seen).toEqual(["one", "two"]);
    expect(three?.queue.counts()).toMatchObject({ ready: 1, processing: 0 });
  });

  test("says so when there is no task to run", () => {
    using db = database();
    db.task("t", {});
    expect(() => db.work()).toThrow("work: no task has a handler");
  });

  test("shares its slots out fairly: of two queues with endless work each gets 40 % of 1,000 starts", async () => {
    for (const concurrency of [1, 3, 10]) {
      using db = database({ file: true });
      const starts: string[] = [];
      const done = Promise.withResolvers<void>();
      const handler = (name: string) => async (): Promise<void> => {
        if (starts.push(name) === 1_000) done.resolve();
        if (name === "slow") await new Promise((resolve) => setImmediate(resolve));
      };
      for (const name of ["quick", "slow"]) {
        db.task(name, {}, handler(name)).enqueueMany(Array.from({ length: 1_500 }, () => undefined));
      }
      await using _ = db.work({ concurrency });
      await within(done.promise, "1,000 starts");
      const quick = starts.slice(0, 1_000).filter((name) => name === "quick").length;
      expect(quick).toBeGreaterThanOrEqual(400);
      expect(quick).toBeLessThanOrEqual(600);
    }
  });

  test("gives all its slots to one queue while the others have nothing", async () => {
    using db = database();
    const gate = Promise.withResolvers<void>();
    for (const name of ["a", "b", "c"]) db.task(name, {}, () => gate.promise);
    db.task("b", {}).enqueueMany(Array.from({ length: 9 }, () => undefined));
    const worker = db.work({ concurrency: 6 });
    await eventually(() => worker.running === 6, "all slots are taken");
    gate.resolve();
    await worker.stop();
  });

  test("lets a task's own timeout win over the worker's", async () => {
    using db = database();
    const quick = db.task("quick", { timeout: "1s" }, async (_, job) => {
      await new Promise((resolve) => job.signal.addEventListener("abort", resolve));
      throw job.signal.reason;
    });
    const slow = db.task("slow", {}, () => new Promise<void>(() => {}));
    const runs = [quick.enqueue(), slow.enqueue()];
    const worker = db.work({ concurrency: 2, timeout: "10s" });
    await eventually(() => worker.running === 2, "both run");
    db.clock.advance("1s");
    await eventually(() => runs[0]?.get()?.state === "delayed", "the quick one has failed");
    expect(runs[1]?.get()?.state).toBe("processing");
    await worker.stop({ timeout: 0 });
  });

  describe("on a queue that tasks share", () => {
    test("runs each by its own handler, with its own options", async () => {
      using db = database();
      const seen: string[] = [];
      const a = db.task("a", { queue: "jobs", backoff: { base: "1m", jitter: 0 } }, () => {
        seen.push("a");
        throw new Error("no");
      });
      const b = db.task("b", { queue: "jobs", output: z.string() }, () => "b's result");
      const [first, second] = [a.enqueue(), b.enqueue()];
      await using _ = db.work();
      expect(await within(second.result(), "the result")).toBe("b's result");
      expect(first.get()?.runAt.getTime()).toBe(db.clock.now + 60_000);
      expect(seen).toEqual(["a"]);
    });

    test("retries a task that it does not know, and buries it with the known ones when its attempts are used up", async () => {
      using db = database();
      db.task("b", { queue: "jobs" }, () => {});
      db.task("a", { queue: "jobs" }, () => {});
      const unknown = db.task("new", { queue: "jobs", maxAttempts: 2 }).enqueue();
      db.queue("jobs").enqueue({ plain: true }, { maxAttempts: 1 });
      const ran = await drain(db, { until: "10s" });
      expect(ran.map(({ outcome }) => outcome)).toEqual(["retried", "dead", "dead"]);
      expect(unknown.get()?.errors.map(({ message }) => message)).toEqual([
        "no handler for the task new; this worker knows a, b",
        "no handler for the task new; this worker knows a, b",
      ]);
      expect(db.queue("jobs").dead.list().at(-1)?.errors[0]?.message).toBe(
        "job 2 of jobs is no task; this worker knows the tasks a, b",
      );
    });

    test("runs it once a worker comes that does", async () => {
      using folder = new Folder();
      using old = open(folder.file());
      using next = open(folder.file());
      old.task("a", { queue: "jobs" }, () => {});
      await using _ = old.work();
      const run = old.task("b", { queue: "jobs", backoff: { base: 20 } }).enqueue();
      await eventually(() => (run.get()?.errors.length ?? 0) > 0, "the old one has tried");
      next.sqlite.run("UPDATE _honker_live SET run_at = 0, due_ms = 0");
      next.task("b", { queue: "jobs" }, () => "new");
      await old.queue("jobs").pause();
      await old.shutdown();
      next.queue("jobs").resume();
      await using __ = next.work();
      expect(await within(next.task("b", { queue: "jobs" }).job(run.id).result(), "the result")).toBe("new");
    });
  });
});
