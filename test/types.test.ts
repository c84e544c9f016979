import { expect, expectTypeOf, test } from "bun:test";

import { z } from "zod";

import type { Honkbun, Job, Notification, Source, Subscription } from "../src/index.ts";
import { drain, perform, type Ran, testDatabase } from "../src/testing/index.ts";

// Checked by `bun check`; the test runner strips the types.
const check = (_db: Honkbun, _types: (db: Honkbun) => unknown): void => {};

test("a queue is typed by its schema: input in, output out", () => {
  using db = testDatabase();
  check(db, (db) => {
    const queue = db.queue("q", { schema: z.object({ at: z.coerce.date<Date | string>() }) });
    expectTypeOf(queue.enqueue).parameter(0).toEqualTypeOf<{ at: Date | string }>();
    expectTypeOf(queue.claim()).toEqualTypeOf<Source<Job<{ at: Date }>>>();
    expectTypeOf(queue.claimBatch(1)).toEqualTypeOf<Job<{ at: Date }>[]>();
    // @ts-expect-error a wrong name
    queue.enqueue({ att: "2030-01-01" });
  });
});

test("a queue is typed by a type argument, or not at all", () => {
  using db = testDatabase();
  check(db, (db) => {
    expectTypeOf(db.queue<{ to: string }>("q").claimBatch(1)).toEqualTypeOf<Job<{ to: string }>[]>();
    expectTypeOf(db.queue("q").claimBatch(1)).toEqualTypeOf<Job<unknown>[]>();
    db.queue<void>("q").enqueue();
    // @ts-expect-error a payload is missing
    db.queue<{ to: string }>("q").enqueue();
    // @ts-expect-error a wrong option
    db.queue("q", { retries: 3 });
  });
});

test("listen is a source, or a subscription where it has a callback", () => {
  using db = testDatabase();
  check(db, (db) => {
    expectTypeOf(db.listen<{ id: number }>("c")).toEqualTypeOf<Source<Notification<{ id: number }>>>();
    expectTypeOf(db.listen<{ id: number }>("c", ({ payload }) => payload.id)).toEqualTypeOf<Subscription>();
    expectTypeOf(db.listen("c").next()).resolves.toEqualTypeOf<IteratorResult<Notification<unknown>>>();
  });
});

test("every option may be undefined", () => {
  using db = testDatabase();
  const maybe = undefined as number | undefined;
  check(db, (db) => {
    db.queue("q", { maxAttempts: maybe }).enqueue(1, { delay: maybe, priority: maybe });
    db.listen("c", { signal: undefined });
  });
});

test("a transaction returns what its callback returns", () => {
  using db = testDatabase();
  expectTypeOf(db.transaction(() => 1)).toEqualTypeOf<number>();
});

test("matchers are typed by what is expected of", () => {
  using db = testDatabase();
  check(db, (db) => {
    const queue = db.queue("q", { schema: z.object({ to: z.string() }) });
    const task = db.task("t", { input: z.object({ n: z.number() }) });
    const stream = db.stream<{ id: number }>("s");
    expect(queue).toHaveEnqueued({ to: "a" }, { times: 1, delay: "5m", priority: 1, uniqueKey: "k" });
    expect(queue).toHaveEnqueued({ to: expect.stringContaining("a") });
    expect(queue).toHaveEnqueued(expect.objectContaining({ to: "a" }));
    expect(task).toHaveEnqueued({ n: 1 });
    expect(stream).toHavePublished({ id: 1 }, { key: "k" });
    expect(db).toHaveNotified("c", { any: "thing" }, { times: 1 });
    // @ts-expect-error a wrong payload
    expect(queue).toHaveEnqueued({ too: "a" });
    // @ts-expect-error a wrong input
    expect(task).toHaveEnqueued({ n: "1" });
    // @ts-expect-error a wrong event
    expect(stream).toHavePublished({ id: "1" });
    // @ts-expect-error a wrong option
    expect(queue).toHaveEnqueued({ to: "a" }, { time: 1 });
    // @ts-expect-error nothing that jobs are enqueued on
    expect(stream).toHaveEnqueued({ id: 1 });
    // @ts-expect-error nothing that events are published to
    expect(5).toHavePublished(5);
    expect(db.outbox<number>("o", () => {})).toHaveEnqueued(5);
    // @ts-expect-error a wrong payload
    expect(db.outbox<number>("o", () => {})).toHaveEnqueued("5");
  });
});

test("drain and perform are typed", () => {
  using db = testDatabase();
  check(db, async (db) => {
    const task = db.task("t", { input: z.object({ n: z.coerce.number<string>() }) }, ({ n }) => n);
    expectTypeOf(perform(task, { n: "1" })).toEqualTypeOf<Promise<number>>();
    // @ts-expect-error a wrong input
    await perform(task, { n: 1 });
    expectTypeOf(drain(db)).toEqualTypeOf<Promise<readonly Ran[]>>();
    await drain(db.queue<{ to: string }>("q"), { handlers: { q: (job) => job.payload.to }, until: "5m" });
  });
});
