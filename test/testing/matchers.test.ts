import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { open } from "../../src/index.ts";
import { drain, testDatabase } from "../../src/testing/index.ts";

/** What an assertion says that fails. */
function failure(assertion: () => void): string {
  try {
    assertion();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("the assertion has not failed");
}

describe("toHaveEnqueued", () => {
  test("compares the payload as it is stored, with asymmetric matchers", () => {
    using db = testDatabase();
    const queue = db.queue<unknown>("q");
    const at = new Date("2030-01-01T00:00:00Z");
    queue.enqueue({ to: "a", at, cc: undefined, tags: [1, { deep: true }] });
    expect(queue).toHaveEnqueued();
    expect(queue).toHaveEnqueued({ to: "a", at, tags: [1, { deep: true }] });
    expect(queue).toHaveEnqueued({ to: "a", at: at.toJSON(), cc: undefined, tags: [1, { deep: true }] });
    expect(queue).toHaveEnqueued({ to: expect.any(String), at, tags: expect.arrayContaining([1]) });
    expect(queue).toHaveEnqueued(expect.objectContaining({ to: "a" }));
    expect(queue).not.toHaveEnqueued({ to: "a" });
    expect(queue).not.toHaveEnqueued({ to: expect.any(Number), at, tags: [1, { deep: true }] });
    expect(queue).not.toHaveEnqueued({ to: "a", at, tags: [1, { deep: false }] });
    expect(db.queue("other")).not.toHaveEnqueued();
    queue.enqueue(null);
    expect(queue).toHaveEnqueued(null, { times: 1 });
  });

  test("compares dates within matchers with what they are stored as", () => {
    using db = testDatabase();
    const queue = db.queue<unknown>("q");
    const at = new Date("2030-01-01T00:00:00Z");
    queue.enqueue({ at, all: [at, null], id: 1 });
    expect(queue).toHaveEnqueued(expect.objectContaining({ at }));
    expect(queue).toHaveEnqueued({ at: expect.any(Date), all: expect.arrayContaining([at]), id: 1 });
    expect(queue).not.toHaveEnqueued(expect.objectContaining({ at: new Date(0) }));
    const mixed = { id: "x", at: new Date(0), due: new Date(5), text: "1970-01-01T00:00:00.007Z" };
    queue.enqueue(mixed);
    expect(queue).toHaveEnqueued({ ...mixed, at: expect.any(Date) });
    expect(queue).toHaveEnqueued({ ...mixed, at: expect.any(String), due: expect.any(Date) });
    expect(queue).toHaveEnqueued({ ...mixed, at: expect.any(Date), due: "1970-01-01T00:00:00.005Z" });
    expect(queue).not.toHaveEnqueued({ ...mixed, at: expect.any(Date), due: new Date(6) });
    expect(queue).not.toHaveEnqueued({ ...mixed, at: expect.any(Date), more: 1 });
    expect(queue).not.toHaveEnqueued({ id: "x", at: expect.any(Date), due: new Date(5) });
  });

  test("compares what JSON makes of a value with what it has made of it", () => {
    using db = testDatabase();
    const queue = db.queue<unknown>("q");
    const odd = {
      function: () => 1,
      [Symbol("symbol")]: 1,
      list: [() => 1, 2, undefined],
      sparse: new Array(2),
      keyed: { toJSON: (key: string) => `as ${key}` },
      number: Number.NaN,
      boxed: Object(5),
    };
    queue.enqueue(odd);
    expect(queue).toHaveEnqueued(odd, { times: 1 });
    expect(queue).toHaveEnqueued({ ...odd, number: expect.anything() }, { times: 0 });
    expect(queue).not.toHaveEnqueued({ ...odd, boxed: 6 });
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    expect(() => expect(queue).not.toHaveEnqueued(cyclic)).toThrow("cyclic");
    expect(() => expect(queue).not.toHaveEnqueued(() => 1)).toThrow("cannot be stored as JSON");
  });

  test("counts, and compares delay, priority and unique key", () => {
    using db = testDatabase({ now: new Date("2030-01-01T00:00:00.250Z") });
    const queue = db.queue<number>("q");
    queue.enqueue(1, { delay: 1_500 });
    db.clock.advance(300);
    queue.enqueue(1, { delay: "2s", priority: 5 });
    queue.enqueue(1, { uniqueKey: "k" });
    queue.enqueue(1, { uniqueKey: "k" });
    db.clock.advance("1h");
    expect(queue).toHaveEnqueued(1, { times: 3 });
    expect(queue).not.toHaveEnqueued(1, { times: 2 });
    expect(queue).toHaveEnqueued(2, { times: 0 });
    expect(queue).toHaveEnqueued(1, { delay: 1_500, times: 1 });
    expect(queue).not.toHaveEnqueued(1, { delay: 1_499 });
    expect(queue).toHaveEnqueued(1, { delay: "2s", priority: 5, times: 1 });
    expect(queue).not.toHaveEnqueued(1, { delay: "2s", priority: 4 });
    expect(queue).toHaveEnqueued(1, { delay: 0, uniqueKey: "k", times: 1 });
    expect(queue).not.toHaveEnqueued(1, { uniqueKey: "other" });
    expect(queue).toHaveEnqueued(1, { delay: undefined, priority: undefined, times: 3 });
  });

  test("knows what has run, died and been cancelled since, and what was given back or retried once", async () => {
    using db = testDatabase();
    const queue = db.queue<string>("q", { maxAttempts: 2, backoff: { base: 0 } });
    const cancelled = queue.enqueue("cancelled");
    queue.cancel(cancelled);
    queue.enqueueMany(["acked", "dies"]);
    await drain(queue, {
      handlers: {
        q: ({ payload }) => {
          if (payload === "dies") throw new Error("down");
        },
      },
    });
    queue.dead.retry("all");
    for (const payload of ["cancelled", "acked", "dies"]) expect(queue).toHaveEnqueued(payload, { times: 1 });
  });

  test("knows a job as it was changed, by update or by another one of its key", () => {
    using db = testDatabase();
    const queue = db.queue<string>("q");
    const id = queue.enqueue("before", { delay: "1h" });
    db.clock.advance("10m");
    queue.update(id, { payload: "after", priority: 3 });
    queue.enqueue("first", { uniqueKey: "k" });
    db.clock.advance("10m");
    queue.enqueue("second", { uniqueKey: "k", onDuplicate: "replace", delay: "1m" });
    expect(queue).toHaveEnqueued("after", { priority: 3, delay: "1h" });
    expect(queue).toHaveEnqueued("second", { delay: "1m" });
    expect(queue).not.toHaveEnqueued("before");
    expect(queue).not.toHaveEnqueued("first");
  });

  test("sees what plain SQL and other handles enqueue, and nothing that was rolled back", () => {
    using db = testDatabase({ file: true });
    using other = open(db.sqlite.filename);
    const queue = db.queue<number>("q");
    db.sqlite.run("INSERT INTO _honker_live (queue, payload) VALUES ('q', '1')");
    other.queue("q").enqueueMany(Array.from({ length: 100 }, () => 2));
    expect(() =>
      db.transaction(() => {
        queue.enqueue(3);
        expect(queue).toHaveEnqueued(3);
        throw new Error("undone");
      }),
    ).toThrow("undone");
    expect(queue).toHaveEnqueued(1);
    expect(queue).toHaveEnqueued(2, { times: 100 });
    expect(queue).not.toHaveEnqueued(3);
  });

  test("knows delays also after a transaction that moved the clock, and was rolled back", () => {
    using db = testDatabase();
    const queue = db.queue<string>("q");
    queue.enqueue("before", { delay: "5m" });
    expect(() =>
      db.transaction(() => {
        queue.enqueue("undone");
        db.clock.advance("1h");
        throw new Error("undone");
      }),
    ).toThrow("undone");
    queue.enqueue("after", { delay: "1m" });
    db.clock.advance("1d");
    expect(queue).toHaveEnqueued("before", { delay: "5m" });
    expect(queue).toHaveEnqueued("after", { delay: "1m" });
  });

  test("knows the runs of a task by their inputs", () => {
    using db = testDatabase();
    const send = db.task("send", { input: z.object({ to: z.string() }), queue: "mail" });
    const ping = db.task("ping", { queue: "mail" });
    const add = db.task("add", { input: z.array(z.number()), queue: "mail" });
    send.enqueue({ to: "a" }, { delay: "1m" });
    ping.enqueue();
    add.enqueue([1, 2]);
    expect(send).toHaveEnqueued({ to: "a" }, { times: 1, delay: "1m" });
    expect(send).not.toHaveEnqueued({ to: "b" });
    expect(ping).toHaveEnqueued(undefined, { times: 1 });
    expect(add).toHaveEnqueued([1, 2], { times: 1 });
    expect(send.queue).toHaveEnqueued(undefined, { times: 3 });
  });

  test("shows what was enqueued instead", () => {
    using db = testDatabase();
    const queue = db.queue<{ to: string }>("emails");
    expect(failure(() => expect(queue).toHaveEnqueued({ to: "b" }))).toContain(
      'Expected to be enqueued on "emails": {\n  to: "b",\n}\n\nThere was nothing',
    );
    queue.enqueue({ to: "a" }, { delay: "1m", priority: 2 });
    const message = failure(() => expect(queue).toHaveEnqueued({ to: "b" }, { times: 2, delay: "2m" }));
    expect(message).toContain('Expected to be enqueued on "emails" 2 times: {\n  to: "b",\n}, delay 120000');
    expect(message).toContain("There were 1, of which 0 match:");
    expect(message).toContain('job 1: {\n  to: "a",\n}, priority 2, delay 60000');
    expect(failure(() => expect(queue).not.toHaveEnqueued({ to: "a" }))).toContain(
      "Expected not to be enqueued",
    );
    for (let n = 0; n < 30; n++) queue.enqueue({ to: "a" });
    expect(failure(() => expect(queue).toHaveEnqueued({ to: "b" }))).toContain("and 11 before");
  });

  test("works on a database of open by what is there still", async () => {
    using db = open(":memory:");
    const queue = db.queue<number>("q", { keepResult: true });
    queue.enqueueMany([1, 2]);
    await drain(queue, { handlers: { q: () => {} } });
    queue.enqueue(3, { priority: 1 });
    expect(queue).toHaveEnqueued(undefined, { times: 3 });
    expect(queue).toHaveEnqueued(3, { priority: 1 });
    expect(() => expect(queue).toHaveEnqueued(3, { delay: 0 })).toThrow(
      "delay is known in a database of testDatabase",
    );
  });

  test("refuses what is no queue, and bad options", () => {
    using db = testDatabase();
    expect(() => expect(db).toHaveEnqueued()).toThrow("must be a queue, a task or an outbox");
    expect(() => expect(db.queue("q")).toHaveEnqueued(1, { time: 1 } as never)).toThrow(
      "unknown option time",
    );
    expect(() => expect(db.queue("q")).toHaveEnqueued(1, { times: -1 })).toThrow(RangeError);
    expect(() => expect(db.queue("q")).not.toHaveEnqueued(1, { delay: "soon" as never })).toThrow(TypeError);
  });
});

describe("toHavePublished", () => {
  test("compares payload and key, counts, and knows what was trimmed since", () => {
    using db = testDatabase();
    const events = db.stream<{ n: number }>("events");
    events.publish({ n: 1 }, { key: "a" });
    events.publishMany([{ n: 2 }, { n: 2 }]);
    events.trim({ maxCount: 1 });
    expect(events).toHavePublished({ n: 1 }, { key: "a", times: 1 });
    expect(events).toHavePublished({ n: 2 }, { times: 2 });
    expect(events).not.toHavePublished({ n: 2 }, { key: "a" });
    expect(events).not.toHavePublished({ n: 3 });
    expect(events).toHavePublished({ n: expect.any(Number) }, { times: 3 });
    const message = failure(() => expect(events).toHavePublished({ n: 3 }));
    expect(message).toContain('Expected to be published to "events": {\n  n: 3,\n}');
    expect(message).toContain('{\n  n: 1,\n}, key "a"');
    expect(() => expect(db.queue("q")).toHavePublished()).toThrow("must be a stream");
  });
});

describe("toHaveNotified", () => {
  test("compares the payload, counts, and knows what was pruned since", () => {
    using db = testDatabase();
    db.notify("users", { id: 1 });
    db.notify("users", { id: 1 });
    db.notify("orders");
    db.sqlite.run("DELETE FROM _honker_notifications");
    expect(db).toHaveNotified("users");
    expect(db).toHaveNotified("users", { id: 1 }, { times: 2 });
    expect(db).not.toHaveNotified("users", { id: 2 });
    expect(db).not.toHaveNotified("nobody");
    const message = failure(() => expect(db).toHaveNotified("nobody"));
    expect(message).toContain('Expected to be notified on "nobody"; on others: "users", "orders": anything');
    expect(() => expect(db.queue("q")).toHaveNotified("users")).toThrow("must be a database");
  });
});

describe("toBeEmpty", () => {
  test("says of a queue whether there is nothing to do, now or later", async () => {
    using db = testDatabase();
    const queue = db.queue<string>("q", { maxAttempts: 1 });
    expect(queue).toBeEmpty();
    for (const options of [
      {},
      { delay: "1h" },
      { after: [db.queue("other").enqueue("first")] },
      { group: "g" },
    ] as const) {
      const id = queue.enqueue("job", options);
      expect(queue).not.toBeEmpty();
      queue.cancel(id);
      expect(queue).toBeEmpty();
    }
    queue.enqueue("claimed");
    const [job] = queue.claimBatch(1);
    expect(queue).not.toBeEmpty();
    const message = failure(() => expect(queue).toBeEmpty());
    expect(message).toContain('Received: queue "q" with 1 processing\n  job 6, processing: "claimed"');
    job?.fail(new Error("down"));
    expect(queue).toBeEmpty(); // dead letters are no jobs any more
    expect(failure(() => expect(queue).not.toBeEmpty())).toContain('Received: queue "q", empty');
    expect(failure(() => expect(queue.dead).toBeEmpty())).toContain('job 6: "claimed", down');
    queue.dead.purge("all");
    expect(queue.dead).toBeEmpty();
  });

  test("shows what there is to do, whatever has ended", async () => {
    using db = testDatabase();
    const queue = db.queue<unknown>("q", { keepResult: "1h" });
    queue.enqueueMany(Array.from({ length: 30 }, () => "old"));
    await drain(queue, { handlers: { q: () => {} } });
    queue.enqueue("x".repeat(50_000), { delay: "1h" });
    const message = failure(() => expect(queue).toBeEmpty());
    expect(message).toContain('queue "q" with 1 delayed\n  job 31, delayed: "xxx');
    expect(message.length).toBeLessThan(2_000);
  });

  test("leaves queues printable once their database is closed", () => {
    const db = testDatabase();
    const all = { queue: db.queue("q"), task: db.task("t", {}), outbox: db.outbox("o", () => {}) };
    db.close();
    expect(Bun.inspect(all)).toContain("[Queue of a database that is closed]");
    expect(Bun.inspect(all)).toContain("[Outbox of a database that is closed]");
  });

  test("knows tasks and outboxes by their queues", () => {
    using db = testDatabase();
    const task = db.task("t", {});
    const outbox = db.outbox<number>("o", () => {});
    expect(task).toBeEmpty();
    expect(outbox).toBeEmpty();
    task.enqueue();
    outbox.enqueue(1);
    expect(task).not.toBeEmpty();
    expect(outbox).not.toBeEmpty();
    expect(outbox).toHaveEnqueued(1, { times: 1 });
  });
});
