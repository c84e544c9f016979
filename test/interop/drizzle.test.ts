import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { drizzle } from "drizzle-orm/bun-sqlite";
import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

import { AmbiguousTransactionError, BusyError, open, TransactionRequiredError } from "../../src/index.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;
const CREATE = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL)";

const orders = sqliteTable("orders", { id: integer().primaryKey(), customer: text().notNull() });

describe("Drizzle on db.sqlite", () => {
  test("commits a row and a job together in db.transaction, or neither", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    using other = open(folder.file(), { wake: WAKE });
    db.sqlite.run(CREATE);
    const orm = drizzle({ client: db.sqlite });
    const emails = db.queue<{ order: number }>("emails");
    const next = other.queue<{ order: number }>("emails").claim().next();
    const place = (customer: string, fails: boolean) =>
      db.transaction(() => {
        const order = orm.insert(orders).values({ customer }).returning().get();
        emails.enqueue({ order: order.id });
        if (fails) throw new Error("card declined");
        return order;
      });
    expect(() => place("mallory", true)).toThrow("card declined");
    expect([orm.select().from(orders).all(), emails.counts().ready]).toEqual([[], 0]);
    expect(place("alice", false)).toEqual({ id: 1, customer: "alice" });
    const { value: job } = await within(next, "the worker wakes");
    expect(job.payload).toEqual({ order: 1 });
  });

  test("commits a row and a job together in its own transaction, by { tx }", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    using other = open(folder.file(), { wake: WAKE });
    db.sqlite.run(CREATE);
    const orm = drizzle({ client: db.sqlite });
    const emails = db.queue<string>("emails");
    const events = db.stream<string>("orders");
    const next = other.queue<string>("emails").claim().next();
    const place = (customer: string, fails: boolean): void =>
      orm.transaction((inner) => {
        inner.insert(orders).values({ customer }).run();
        emails.enqueue(customer, { tx: orm.$client });
        events.publish(customer, { tx: orm.$client });
        db.notify("orders", customer, { tx: orm.$client });
        if (fails) inner.rollback();
      });
    expect(() => place("mallory", true)).toThrow();
    expect([emails.counts().ready, events.length()]).toEqual([0, 0]);
    place("alice", false);
    expect((await within(next, "the worker wakes")).value.payload).toBe("alice");
    expect(events.read()).toMatchObject([{ payload: "alice" }]);
    expect(orm.select().from(orders).all()).toEqual([{ id: 1, customer: "alice" }]);
  });

  test("is told at once when { tx } is forgotten, and nothing is sent", () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.sqlite.run(CREATE);
    const orm = drizzle({ client: db.sqlite });
    const emails = db.queue("emails");
    const forgotten = (): void =>
      orm.transaction((inner) => {
        inner.insert(orders).values({ customer: "alice" }).run();
        emails.enqueue(1);
      });
    expect(forgotten).toThrow(AmbiguousTransactionError);
    expect(forgotten).toThrow("pass { tx } to send on this transaction");
    expect([orm.select().from(orders).all(), emails.counts().ready]).toEqual([[], 0]);
  });

  test("is told what to pass when it passes Drizzle's own tx", () => {
    using db = open(":memory:");
    db.sqlite.run(CREATE);
    const orm = drizzle({ client: db.sqlite });
    expect(() =>
      orm.transaction((inner) => void db.queue("emails").enqueue(1, { tx: inner as unknown as Database })),
    ).toThrow("with Drizzle: orm.$client, not its tx");
    expect(() => db.queue("emails").enqueue(1, { tx: orm.$client })).toThrow(TransactionRequiredError);
  });
});

describe("Drizzle on a handle of the application's", () => {
  test("commits a row and a job together beside a honkbun handle of its own, by { tx }", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    using client = new Database(folder.file());
    client.run(CREATE);
    const orm = drizzle({ client });
    const emails = db.queue<string>("emails");
    const next = emails.claim().next();
    orm.transaction((inner) => {
      inner.insert(orders).values({ customer: "alice" }).run();
      emails.enqueue("alice", { tx: orm.$client });
    });
    expect((await within(next, "the worker wakes")).value.payload).toBe("alice");
  });

  test("is told within a second or two when { tx } is forgotten, what to do", () => {
    using folder = new Folder();
    using db = open(folder.file());
    using client = new Database(folder.file());
    client.run(CREATE);
    const orm = drizzle({ client });
    const start = performance.now();
    const forgotten = (): void =>
      orm.transaction((inner) => {
        inner.insert(orders).values({ customer: "alice" }).run();
        db.queue("emails").enqueue(1);
      });
    expect(forgotten).toThrow(BusyError);
    expect(performance.now() - start).toBeLessThan(4_000); // busyTimeout is five seconds
    expect(forgotten).toThrow("send on that handle with { tx }");
  });

  for (const options of [
    {},
    { safeIntegers: true },
    { strict: true },
    { safeIntegers: true, strict: true },
  ]) {
    test(`is opened by honkbun as it is: ${JSON.stringify(options)}`, async () => {
      using folder = new Folder();
      using client = new Database(folder.file(), { create: true, ...options });
      client.run(CREATE);
      using db = open(client, { wake: WAKE });
      const orm = drizzle({ client });
      const emails = db.queue<string>("emails", { keepResult: true });
      const done: number[] = [];
      const worker = emails.work(({ id, priority, attempt }) => void done.push(id, priority, attempt));
      db.transaction(() => {
        orm.insert(orders).values({ customer: "alice" }).run();
        emails.enqueue("alice", { priority: 3 });
      });
      orm.transaction(() => void emails.enqueue("bob", { tx: orm.$client }));
      await eventually(() => done.length === 6, "both are run");
      expect(done).toEqual([1, 3, 1, 2, 0, 1]);
      expect(db.tryLock("a")?.token).toBe(1);
      expect(db.rateLimit("r", { limit: 2, per: "1s" }).try().remaining).toBe(1);
      expect(db.stream("s").publish(1)).toBe(1);
      db.scheduler.add("s", { every: "1h", queue: "q" });
      expect(db.scheduler.list()).toHaveLength(1);
      await worker.stop();
    });
  }

  test("leaves no descriptor behind, opened and closed 20 times", () => {
    using folder = new Folder();
    const use = (): void => {
      const client = new Database(folder.file());
      const db = open(client);
      client.run(CREATE);
      const orm = drizzle({ client });
      // Drizzle's own statements hold their descriptors until they are collected; so it has none here.
      orm.transaction(() => void db.queue("emails").enqueue(1, { tx: client }));
      db.transaction(() => void db.queue("emails").enqueue(1));
      db.queue("emails").claimBatch(1)[0]?.ack();
      db.tryLock("a")?.release();
      db.close();
      client.close();
    };
    use();
    const before = openDescriptors(folder.path);
    for (let n = 0; n < 20; n++) use();
    expect(openDescriptors(folder.path)).toEqual(before);
  });
});
