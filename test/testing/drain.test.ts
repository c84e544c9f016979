import { describe, expect, spyOn, test } from "bun:test";

import { z } from "zod";

import { type Honkbun, open, UnrecoverableError } from "../../src/index.ts";
import { busy, drain, loseClaims, perform, testDatabase } from "../../src/testing/index.ts";
import { turn } from "../../src/testing/turn.ts";

const START = new Date("2030-01-01T00:00:00Z");

describe("drain", () => {
  test("runs what is due and what handlers enqueue, in order, and says how it ended", async () => {
    using db = testDatabase();
    const order: string[] = [];
    const mail = db.task("mail", { input: z.object({ to: z.string() }) }, ({ to }) => {
      order.push(to);
      return { sent: to };
    });
    const digest = db.task("digest", {}, () => {
      order.push("digest");
      for (const to of ["a", "b"]) mail.enqueue({ to });
    });
    const { id } = digest.enqueue();
    mail.enqueue({ to: "later" }, { delay: 1 });
    expect(await drain(db)).toEqual([
      { id, queue: "digest", outcome: "completed" },
      { id: id + 2, queue: "mail", outcome: "completed", result: { sent: "a" } },
      { id: id + 3, queue: "mail", outcome: "completed", result: { sent: "b" } },
    ]);
    expect(order).toEqual(["digest", "a", "b"]);
    expect(mail.queue.counts()).toMatchObject({ delayed: 1, processing: 0 });
    expect(await drain(db)).toEqual([]);
  });

  test("tells of attempts that are retried, snoozed and dead, with their errors", async () => {
    using db = testDatabase();
    const queue = db.queue<string>("q", { maxAttempts: 2, backoff: { base: 0 } });
    const down = new Error("down");
    const refused = new UnrecoverableError("refused");
    queue.enqueueMany(["throws", "snoozes", "refuses", "acks", "retries"]);
    const ran = await drain(queue, {
      handlers: {
        q: (job) => {
          if (job.payload === "throws") throw down;
          if (job.payload === "refuses") throw refused;
          if (job.payload === "snoozes") job.snooze("1h");
          if (job.payload === "acks") job.ack({ result: 7 });
          if (job.payload === "retries") job.retry({ delay: "1h", error: down });
        },
      },
    });
    expect(ran).toEqual([
      { id: 1, queue: "q", outcome: "retried", error: down },
      { id: 1, queue: "q", outcome: "dead", error: down },
      { id: 2, queue: "q", outcome: "snoozed" },
      { id: 3, queue: "q", outcome: "dead", error: refused },
      { id: 4, queue: "q", outcome: "completed", result: 7 },
      { id: 5, queue: "q", outcome: "retried", error: down },
    ]);
  });

  test("moves the clock through retries and schedules, and leaves it at the end", async () => {
    using db = testDatabase({ now: START });
    const seen: [string, string][] = [];
    const at = (): string => new Date(db.clock.now).toISOString().slice(11, 19);
    let failures = 2;
    const flaky = db.task("flaky", { backoff: { base: "10s", jitter: 0 } }, () => {
      seen.push(["flaky", at()]);
      if (failures-- > 0) throw new Error("down");
    });
    const report = db.task("report", {}, () => void seen.push(["report", at()]));
    db.scheduler.add("hourly", { cron: "0 * * * *", timezone: "UTC", task: report });
    flaky.enqueue();
    const ran = await drain(db, { until: "2h" });
    expect(seen).toEqual([
      ["flaky", "00:00:00"],
      ["flaky", "00:00:10"],
      ["flaky", "00:00:30"],
      ["report", "01:00:00"],
      ["report", "02:00:00"],
    ]);
    expect(ran.map(({ outcome }) => outcome)).toEqual([
      "retried",
      "retried",
      "completed",
      "completed",
      "completed",
    ]);
    expect(db.clock.now).toBe(START.getTime() + 2 * 3_600_000);
  });

  test("passes over what is only upkeep: renewals of locks and of claims", async () => {
    using db = testDatabase({ now: START });
    const queue = db.queue("q", { visibilityTimeout: "1s" });
    queue.enqueue(1);
    using lock = db.tryLock("l", { ttl: "1s" });
    const jobs = queue.claim();
    const { value: job } = await jobs.next();
    const task = db.task("t", {}, () => {});
    task.enqueue(undefined, { delay: "300d" });
    expect(await drain(task.queue, { until: "365d" })).toHaveLength(1);
    await turn();
    await turn();
    expect(lock?.isHeld).toBe(true);
    job.ack();
    await jobs.return?.();
  });

  test("of a queue runs its jobs alone", async () => {
    using db = testDatabase();
    const order: string[] = [];
    const one = db.task("one", {}, () => void order.push("one"));
    const two = db.task("two", {}, () => void order.push("two"));
    one.enqueue();
    two.enqueue();
    expect(await drain(one.queue)).toMatchObject([{ queue: "one" }]);
    expect(order).toEqual(["one"]);
    expect(two.queue.counts().ready).toBe(1);
  });

  test("of a queue tells of its jobs alone, whatever else is run meanwhile", async () => {
    using db = testDatabase();
    const [mine, others] = [db.queue("mine"), db.queue("others")];
    await using _ = others.work(() => {});
    mine.enqueue(1);
    others.enqueue(2);
    expect(await drain(mine, { handlers: { mine: () => {} } })).toMatchObject([{ queue: "mine" }]);
  });

  test("tells of handlers in threads", async () => {
    using db = testDatabase({ file: true });
    const queue = db.queue<unknown[]>("q", { keepResult: true });
    await using _ = queue.work(new URL("../support/handlers/scripted.ts", import.meta.url));
    queue.enqueueMany([[{ do: "snooze", value: "1h" }], [{ do: "return", value: 5 }]]);
    expect(await drain(db)).toMatchObject([{ outcome: "snoozed" }, { outcome: "completed", result: 5 }]);
  });

  test("runs given handlers by the schema and the options that their queue was opened with", async () => {
    using db = testDatabase();
    const dates = db.queue("dates", { schema: z.object({ at: z.coerce.date() }), maxAttempts: 1 });
    dates.enqueue({ at: START });
    db.queue("plain").enqueue({ at: START });
    const seen: unknown[] = [];
    const ran = await drain(db, {
      handlers: {
        dates: (job) => {
          seen.push(job.payload);
          throw new Error("no");
        },
        plain: (job) => void seen.push(job.payload),
      },
    });
    expect(seen).toContainEqual({ at: START });
    expect(seen).toContainEqual({ at: START.toJSON() });
    expect(ran.find(({ queue }) => queue === "dates")?.outcome).toBe("dead");
  });

  test("lets a given handler win over a task's", async () => {
    using db = testDatabase();
    const task = db.task("t", {}, () => "real");
    task.enqueue();
    expect(await drain(db, { handlers: { t: () => "given" } })).toMatchObject([{ result: "given" }]);
  });

  test("delivers outboxes", async () => {
    using db = testDatabase();
    const delivered: unknown[] = [];
    const webhooks = db.outbox<number>("webhooks", (payload) => void delivered.push(payload));
    webhooks.enqueue(1);
    expect(await drain(db)).toMatchObject([{ queue: "_outbox:webhooks", outcome: "completed" }]);
    expect(delivered).toEqual([1]);
  });

  test("waits for handlers that take their time", async () => {
    using db = testDatabase();
    const task = db.task("slow", {}, async () => {
      await Bun.sleep(30);
      return "done";
    });
    task.enqueue();
    expect(await drain(db)).toMatchObject([{ result: "done" }]);
  });

  test("waits for workers, groups and consumers that run already", async () => {
    using db = testDatabase();
    const events = db.stream<number>("events");
    db.sqlite.run("CREATE TABLE totals (n INTEGER)");
    await using _ = events.process("totals", ({ payload }, tx) => {
      tx.run("INSERT INTO totals VALUES (?)", [payload]);
    });
    const handled: number[] = [];
    await using __ = events.group("audit").work(async ({ payload }) => {
      await Bun.sleep(1);
      handled.push(payload);
    });
    await using ___ = db.queue<number>("q").work((job) => void events.publish(job.payload));
    db.queue("q").enqueueMany([1, 2, 3]);
    const ran = await drain(db);
    expect(db.sqlite.query("SELECT sum(n) AS n FROM totals").get()).toEqual({ n: 6 });
    expect(handled).toEqual([1, 2, 3]);
    expect(ran.filter(({ queue }) => queue === "q")).toHaveLength(3);
    expect(events.consumers()).toMatchObject([{ name: "totals", lag: 0 }]);
  });

  test("waits for a consumer that cannot have the write lock yet", async () => {
    using db = testDatabase({ file: true });
    const events = db.stream<number>("events");
    events.publish(1);
    await busy(db, 100);
    let handled = 0;
    await using _ = events.process("c", () => void handled++);
    await drain(db);
    expect(handled).toBe(1);
  });

  test("runs dependents, groups and what a limit lets through one after the other", async () => {
    using db = testDatabase({ now: START });
    const queue = db.queue<string>("q");
    queue.setLimits({ rate: { limit: 1, per: "1m" } });
    const parent = queue.enqueue("parent");
    queue.enqueue("child", { after: [parent] });
    queue.enqueue("first", { group: "g" });
    queue.enqueue("second", { group: "g" });
    const order: string[] = [];
    const handlers = { q: (job: { readonly payload: string }) => void order.push(job.payload) };
    await drain(db, { handlers });
    expect(order).toEqual(["parent"]);
    await drain(db, { handlers, until: "10m" });
    expect(order.toSorted()).toEqual(["child", "first", "parent", "second"]);
    expect(order.indexOf("first")).toBeLessThan(order.indexOf("second"));
  });

  test("lets handlers wait for one another's results", async () => {
    using db = testDatabase();
    const inner = db.task("inner", { input: z.number() }, (n) => n * 2);
    const outer = db.task("outer", { input: z.number() }, async (n): Promise<number> => {
      const half: number = n === 0 ? 1 : await outer.run(n - 1);
      return half + (await inner.run(n));
    });
    const run = outer.enqueue(5);
    await drain(db);
    expect(await run.result()).toBe(31);
  });

  test("lets the clock go on for a handler that waits for a rate limit", async () => {
    using db = testDatabase({ now: START });
    const limit = db.rateLimit("partner", { limit: 1, per: "1m" });
    const at: number[] = [];
    const call = db.task("call", { timeout: "5m" }, async () => {
      await limit.wait();
      at.push((db.clock.now - START.getTime()) / 60_000);
    });
    call.enqueueMany([undefined, undefined, undefined]);
    const ran = await drain(db, { until: "10m" });
    expect(ran).toHaveLength(3);
    expect(at).toEqual([0, 1, 2]);
  });

  test("is told of what ends during it, whoever runs it, once", async () => {
    using db = testDatabase();
    const task = db.task("t", {}, () => {});
    await using _ = db.work({ scheduler: false });
    task.enqueueMany(Array.from({ length: 20 }, () => undefined));
    const ran = await drain(db);
    expect(ran.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, n) => n + 1),
    );
  });

  test("works on a file, beside another handle on it", async () => {
    using db = testDatabase({ file: true });
    using other = open(db.sqlite.filename, { clock: () => db.clock.now });
    const task = db.task("t", { backoff: { base: "10s" } }, (_, job) => {
      if (job.attempt === 1) throw new Error("once");
      other.queue("theirs").enqueue(1);
    });
    task.enqueue();
    expect(await drain(db, { until: "1m" })).toMatchObject([
      { outcome: "retried" },
      { outcome: "completed" },
    ]);
    expect(other.queue("theirs").counts().ready).toBe(1);
  });

  test("works on a database of open, whose clock it cannot move", async () => {
    using db = open(":memory:");
    const task = db.task("t", {}, () => "done");
    task.enqueue();
    await expect(drain(db, { until: "1m" })).rejects.toThrow(/testDatabase/);
    expect(task.queue.counts().ready).toBe(1);
    expect(await drain(db)).toMatchObject([{ outcome: "completed", result: "done" }]);
    expect(task.queue).toBeEmpty();
  });

  describe("with until, a handler is not waited for that waits for the clock itself:", () => {
    test("for the result of another job, which is retried", async () => {
      using db = testDatabase({ now: START });
      let n = 0;
      const child = db.task("child", { backoff: { base: "1s" } }, () => {
        if (n++ === 0) throw new Error("once");
        return 5;
      });
      const parent = db.task("parent", {}, () => child.enqueue().result());
      parent.enqueue();
      const ran = await drain(db, { until: "1h" });
      expect(ran.map(({ queue, outcome }) => [queue, outcome])).toEqual([
        ["child", "retried"],
        ["child", "completed"],
        ["parent", "completed"],
      ]);
    });

    test("for the result of a job that is delayed, and for one that nobody runs", async () => {
      using db = testDatabase({ now: START });
      const waits: unknown[] = [];
      const child = db.task("child", {}, () => "done");
      const parent = db.task("parent", {}, async () => {
        waits.push(await child.enqueue(undefined, { delay: "1m" }).result());
        const nobody = db.task("nobody", {}).enqueue();
        waits.push(await nobody.result({ timeout: "1m" }).catch((error) => error.name));
      });
      parent.enqueue();
      expect(await drain(db, { until: "1h" })).toHaveLength(2);
      expect(waits).toEqual(["done", "WaitTimeoutError"]);
    });

    test("for a lock, which a living process does not lose meanwhile", async () => {
      using db = testDatabase({ now: START });
      using lock = db.tryLock("l", { ttl: "30s" });
      const waits: string[] = [];
      const task = db.task("t", {}, () =>
        db
          .lock("l", { timeout: "5m" })
          .catch((error) => waits.push(`${error.name} ${db.clock.now - START.getTime()}`)),
      );
      task.enqueue();
      expect(await drain(db, { until: "1h" })).toHaveLength(1);
      expect(waits).toEqual(["WaitTimeoutError 300000"]);
      expect(lock?.isHeld).toBe(true);
    });

    test("for a lock that is looked at before it is renewed", async () => {
      using db = testDatabase({ now: START });
      using lock = db.tryLock("l", { ttl: "30s" });
      const waiting = db.lock("l", { timeout: "5m" });
      waiting.catch(() => {});
      db.scheduler.add("s", { every: "1h", queue: "q" });
      await drain(db, { until: "1h" });
      await expect(waiting).rejects.toThrow("was not free within 300000 ms");
      expect(lock?.isHeld).toBe(true);
    });

    test("but one that waits beside a handler that does not is", async () => {
      using db = testDatabase({ now: START });
      const limit = db.rateLimit("r", { limit: 1, per: "1h" });
      limit.try();
      const at: number[] = [];
      const limited = db.task("limited", {}, () => limit.wait());
      await using _ = db.queue("slow").work(async () => {
        await Bun.sleep(50);
        at.push(db.clock.now);
      });
      limited.enqueue();
      db.queue("slow").enqueue(1);
      expect(await drain(db, { until: "2h" })).toHaveLength(2);
      expect(at).toEqual([START.getTime()]);
    });

    test("nor is time passed for what the test itself waits for", async () => {
      using db = testDatabase({ now: START });
      const slow = db.task("slow", { timeout: "1m" }, async () => {
        await Bun.sleep(50);
        return 1;
      });
      const parent = db.task("parent", {}, () => slow.enqueue().result({ timeout: "30s" }));
      db.task("cleanup", {}, () => {}).enqueue(undefined, { delay: "10m" });
      const runs = [slow.enqueue(), parent.enqueue()];
      const results = Promise.all(runs.map((run) => run.result({ timeout: "30s" })));
      const watching = (async () => {
        for await (const _ of db.queue("slow").watch(runs[0]?.id ?? 0));
      })();
      const ran = await drain(db, { until: "1h" });
      expect(ran.map(({ outcome }) => outcome)).toEqual(["completed", "completed", "completed", "completed"]);
      expect(await results).toEqual([1, 1]);
      await watching;
    });

    test("for what comes after until it waits in vain, and that is told", async () => {
      const cases: ((db: ReturnType<typeof testDatabase>) => Promise<unknown>)[] = [
        async (db) => {
          const limit = db.rateLimit("r", { limit: 1, per: "1h" });
          limit.try();
          await limit.wait();
        },
        (db) => db.lock("l", { timeout: "10m" }),
        (db) => db.task("nobody", {}).run(),
      ];
      for (const wait of cases) {
        for (const until of ["5m", undefined] as const) {
          using db = testDatabase({ now: START });
          using _ = db.tryLock("l");
          const task = db.task("t", {}, () => wait(db));
          task.enqueue();
          await expect(drain(db, { until })).rejects.toThrow(
            /^drain: the handler of job 1 of t waits for a result, a lock or a rate limit that does not come/,
          );
        }
      }
    }, 60_000);

    test("for others, a hundred deep at most", async () => {
      using db = testDatabase({ now: START });
      const task = db.task("t", { input: z.number() }, async (n): Promise<number> =>
        n === 0 ? 0 : 1 + (await task.run(n - 1)),
      );
      const shallow = task.enqueue(90);
      await drain(db);
      expect(await shallow.result()).toBe(90);
      task.enqueue(120);
      await expect(drain(db)).rejects.toThrow("more than 100 handlers wait for one another's results");
    }, 30_000);
  });

  test("waits for a handler that hangs: its timeout goes by the clock, which may be moved beside it", async () => {
    using db = testDatabase({ now: START });
    const begun = Promise.withResolvers<void>();
    const hangs = db.task("hangs", { timeout: "30s", maxAttempts: 1 }, () => {
      begun.resolve();
      return new Promise<never>(() => {});
    });
    hangs.enqueue();
    const draining = drain(db, { until: "10m" });
    await begun.promise;
    db.clock.advance("31s");
    expect(await draining).toMatchObject([{ outcome: "dead", error: { code: "HONKBUN_JOB_TIMEOUT" } }]);
  });

  test("sees what plain SQL has written", async () => {
    for (const file of [false, true]) {
      using db = testDatabase({ file, now: new Date("2020-01-01") }); // when nothing is due that is stored by the system's time
      db.sqlite.run("CREATE TABLE members (name TEXT)");
      db.capture.add("members", { on: ["insert"], into: { queue: "welcome" } });
      await using _ = db.queue("welcome").work(() => {});
      expect(await drain(db)).toEqual([]);
      db.sqlite.run("INSERT INTO members VALUES ('alice')");
      expect(await drain(db)).toHaveLength(1);
    }
  });

  test("of a queue leaves the handlers of others alone", async () => {
    using db = testDatabase();
    const gate = Promise.withResolvers<void>();
    const worker = db.queue("others").work(() => gate.promise);
    db.queue("others").enqueue(1);
    const mine = db.queue("mine");
    mine.enqueue(1);
    expect(await drain(mine, { handlers: { mine: () => 1 } })).toHaveLength(1);
    gate.resolve();
    await worker.stop();
  });

  test("refuses a handler for a queue that a worker is running", async () => {
    using db = testDatabase();
    const task = db.task("t", {}, () => "real");
    await using _ = db.work({ scheduler: false });
    task.enqueue();
    await expect(drain(db, { handlers: { t: () => "given" } })).rejects.toThrow(
      "handlers.t: a worker is running the jobs of that queue; stop it first",
    );
  });

  test("never sets the clock back", async () => {
    using db = testDatabase({ now: START });
    const task = db.task("t", {}, () => db.clock.advance("1h"));
    task.enqueue();
    await drain(db, { until: "10m" });
    expect(db.clock.now).toBe(START.getTime() + 3_600_000);
    const [one, two] = [db.queue("one"), db.queue("two")];
    await Promise.all([
      drain(one, { until: "10m", handlers: { one: () => {} } }),
      drain(two, { until: "2m", handlers: { two: () => {} } }),
    ]);
    expect(db.clock.now).toBe(START.getTime() + 3_600_000 + 600_000);
  });

  test("passes time though there is nothing but a schedule", async () => {
    using db = testDatabase({ now: START });
    db.scheduler.add("s", { every: "1h", queue: "q" });
    expect(await drain(db, { until: "3h" })).toEqual([]);
    expect(db.queue("q")).toHaveEnqueued(undefined, { times: 3 });
  });

  test("rejects when a consumer of a stream stops by an error", async () => {
    using db = testDatabase();
    const events = db.stream<number>("events");
    events.publish(1);
    const consumer = events.process("c", () => {
      throw new Error("no such column");
    });
    consumer.stopped.catch(() => {});
    db.on("error", () => {});
    await expect(drain(db)).rejects.toThrow("drain: a consumer of events has stopped: no such column");
  });

  test("gives a handler in place of a task's the task's input, and one of an outbox what it delivers", async () => {
    using db = testDatabase();
    const task = db.task("t", { input: z.object({ at: z.coerce.date() }) }, () => "real");
    const outbox = db.outbox<number>("o", () => {
      throw new Error("not this one");
    });
    task.enqueue({ at: START });
    outbox.enqueue(5);
    const seen: unknown[] = [];
    const see = (job: { readonly payload: unknown }): void => void seen.push(job.payload);
    await drain(db, { handlers: { t: see, "_outbox:o": see } });
    expect(seen).toEqual([{ at: START }, 5]);
  });

  test("reads jobs by the options of their queue, though it was opened without any since", async () => {
    using db = testDatabase();
    db.queue("q", { schema: z.object({ at: z.coerce.date() }) }).enqueue({ at: START });
    expect(db.queue("q")).not.toBeEmpty();
    const seen: unknown[] = [];
    await drain(db, { handlers: { q: (job) => void seen.push(job.payload) } });
    expect(seen).toEqual([{ at: START }]);
  });

  test("says what it waits for when that takes long", async () => {
    using db = testDatabase();
    const gate = Promise.withResolvers<void>();
    const task = db.task("t", {}, () => gate.promise);
    task.enqueue();
    const warn = spyOn(console, "warn").mockImplementation(() => gate.resolve());
    try {
      await drain(db);
      expect(warn.mock.calls).toEqual([
        ["drain: has been at it for 3000 ms, and made 0 attempts; now waits for the handler of job 1 of t"],
      ]);
    } finally {
      warn.mockRestore();
    }
  }, 60_000);

  test("leaves attempts of perform out", async () => {
    using db = testDatabase();
    const inner = db.task("inner", {}, () => 1);
    const outer = db.task("outer", {}, () => perform(inner, undefined));
    outer.enqueue();
    expect(await drain(db)).toMatchObject([{ queue: "outer", result: 1 }]);
  });

  describe("an endless loop", () => {
    const cases: [string, RegExp, (db: Honkbun) => void][] = [
      [
        "of a task that enqueues itself",
        /drain: task ping: an endless loop/,
        (db) => {
          const ping = db.task("ping", {}, () => void ping.enqueue());
          ping.enqueue();
        },
      ],
      [
        "of two tasks that enqueue each other",
        /drain: task ping, task pong: an endless loop/,
        (db) => {
          const pong = db.task("pong", {}, () => void ping.enqueue());
          const ping = db.task("ping", {}, () => void pong.enqueue());
          ping.enqueue();
        },
      ],
      [
        "of a job that is due again at once",
        /drain: queue _outbox:again: an endless loop/,
        (db) => db.outbox<null>("again", (_, job) => job.snooze(0)).enqueue(null),
      ],
    ];
    test.each(cases)("%s throws with its name", async (_, message, begin) => {
      using db = testDatabase();
      begin(db);
      await expect(drain(db)).rejects.toThrow(message);
    });

    test("is not what has much to do, in many queues or again at once", async () => {
      using db = testDatabase();
      const mail = db.task("mail", { input: z.number() }, () => {});
      const signup = db.task("signup", { input: z.number(), backoff: { base: 0 } }, (n, job) => {
        if (job.attempt === 1) throw new Error("once");
        mail.enqueue(n, { priority: 5 });
      });
      signup.enqueueMany(Array.from({ length: 3_000 }, (_, n) => n));
      expect(await drain(db)).toHaveLength(9_000);
    }, 30_000);

    test("is found by the system's clock, too", async () => {
      using db = open(":memory:");
      const ping = db.task("ping", {}, () => void ping.enqueue());
      ping.enqueue();
      await expect(drain(db)).rejects.toThrow("drain: task ping: an endless loop");
    }, 60_000);

    test("is found after attempts whose end nobody told", async () => {
      using db = testDatabase();
      db.on("error", () => {});
      const inner = db.task("inner", {}, () => 1);
      const lost = db.task("lost", { backoff: { base: 0 } }, () => void loseClaims(db));
      const ping = db.task("ping", {}, () => void ping.enqueue());
      const performs = db.task("performs", {}, async () => void (await perform(inner, undefined)));
      performs.enqueue();
      lost.enqueue(undefined, { maxAttempts: 1 });
      ping.enqueue();
      await expect(drain(db)).rejects.toThrow("drain: task ping: an endless loop");
    }, 30_000);

    test("is not what others enqueue while handlers run beside one another", async () => {
      using db = testDatabase();
      const rows = db.queue<number>("rows");
      const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
      await using _ = rows.work(
        async () => {
          await later();
          await later();
        },
        { concurrency: 4 },
      );
      db.queue("list").enqueue(0);
      const list = async (): Promise<void> => {
        for (let n = 0; n < 12_000; n++) {
          rows.enqueue(n);
          await later();
        }
      };
      expect(await drain(db, { handlers: { list } })).toHaveLength(12_001);
    }, 60_000);

    test("is not one in which time passes", async () => {
      using db = testDatabase();
      const tick = db.task("tick", {}, () => void tick.enqueue(undefined, { delay: 10 }));
      tick.enqueue();
      expect(await drain(db, { until: "1m" })).toHaveLength(6_001);
    }, 60_000);

    test("is not a long chain that ends", async () => {
      using db = testDatabase();
      const pages = db.task("pages", { input: z.number() }, (n) => void (n > 1 && pages.enqueue(n - 1)));
      pages.enqueue(2_500);
      expect(await drain(db)).toHaveLength(2_500);
    }, 30_000);

    test("is not what has much to do", async () => {
      using db = testDatabase();
      const queue = db.queue<number>("q");
      queue.enqueueMany(Array.from({ length: 3_000 }, (_, n) => n));
      const ran = await drain(queue, {
        handlers: { q: (job) => void (job.payload < 3_000 && queue.enqueue(5_000)) },
      });
      expect(ran).toHaveLength(6_000);
    });
  });

  describe("refuses", () => {
    test("what has nothing that could run", async () => {
      using db = testDatabase();
      const queue = db.queue("q");
      queue.enqueue(1);
      await expect(drain(db)).rejects.toThrow(/nothing could run: no task has a handler/);
      await expect(drain(queue)).rejects.toThrow(/nothing could run the jobs of q/);
      db.task("t", {}, () => {});
      await expect(drain(queue)).rejects.toThrow(/nothing could run the jobs of q/);
    });

    test("bad arguments, before anything is run", async () => {
      using db = testDatabase();
      const task = db.task("t", {}, () => {});
      task.enqueue();
      await expect(drain({} as never)).rejects.toThrow(TypeError);
      await expect(drain(db, { untill: 1 } as never)).rejects.toThrow("drain: unknown option untill");
      await expect(drain(db, { until: "soon" as never })).rejects.toThrow(TypeError);
      await expect(drain(db, { handlers: { q: 1 as never } })).rejects.toThrow(
        "handlers.q: must be a function",
      );
      await expect(drain(task.queue, { handlers: { other: () => {} } })).rejects.toThrow(/it is the queue t/);
      expect(task.queue.counts().ready).toBe(1);
    });
  });

  test("rejects when the database is closed meanwhile", async () => {
    const db = testDatabase();
    const task = db.task("t", {}, () => void db.close());
    task.enqueue();
    await expect(drain(db)).rejects.toThrow("closed");
  });

  describe("beside others of the same file", () => {
    for (const n of [1, 2, 3]) {
      test.concurrent(`has a database of its own, ${n}`, async () => {
        using db = testDatabase();
        const task = db.task("t", { input: z.number(), backoff: { base: n * 1_000 } }, async (input, job) => {
          await Bun.sleep(1);
          if (job.attempt < n) throw new Error("again");
          return input;
        });
        task.enqueue(n);
        expect((await drain(db, { until: "1h" })).at(-1)).toMatchObject({ outcome: "completed", result: n });
      });
    }
  });
});
