import { expect, test } from "bun:test";

import { drain } from "../../src/testing/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";

test("an outbox delivers what was committed, and nothing that was rolled back", async () => {
  using db = database();
  db.sqlite.run("CREATE TABLE orders (id INTEGER)");
  const delivered: unknown[] = [];
  const webhooks = db.outbox<{ order: number }>("webhooks", (payload, job) => {
    delivered.push([payload, job.queue, job.attempt]);
  });
  await using _ = webhooks.work({ concurrency: 2 });
  const place = (order: number, fails = false): void =>
    db.transaction((tx) => {
      tx.run("INSERT INTO orders VALUES (?)", [order]);
      webhooks.enqueue({ order });
      if (fails) throw new Error("card declined");
    });
  expect(() => place(1, true)).toThrow("card declined");
  place(2);
  await eventually(() => delivered.length === 1, "it is delivered");
  expect(delivered).toEqual([[{ order: 2 }, "_outbox:webhooks", 1]]);
});

test("an outbox tries five times, with exponential backoff from five seconds, unless it is told otherwise", async () => {
  using db = database();
  const at: number[] = [];
  const fails = (): never => {
    at.push(db.clock.now);
    throw new Error("down");
  };
  const outbox = db.outbox("x", fails);
  const id = outbox.enqueue(1);
  const ran = await drain(db, { until: "1h" });
  expect(ran.map(({ outcome }) => outcome)).toEqual(["retried", "retried", "retried", "retried", "dead"]);
  expect(db.queue("_outbox:x").get(id)).toMatchObject({ state: "dead", attempts: 5 });
  for (let n = 0; n < 4; n++) {
    const wait = (at[n + 1] ?? 0) - (at[n] ?? 0);
    expect(wait).toBeWithin(4_000 * 2 ** n, 6_000 * 2 ** n + 2);
  }
  const other = db.outbox("y", fails, { maxAttempts: 2 });
  expect(db.queue("_outbox:y").get(other.enqueue(1))?.maxAttempts).toBe(2);
});

test("an outbox refuses bad arguments", () => {
  using db = database();
  expect(() => db.outbox("", () => {})).toThrow("outbox: name");
  expect(() => db.outbox("x", undefined as never)).toThrow("outbox: deliver must be a function");
  expect(() => db.outbox("x", () => {}, { attempts: 2 } as never)).toThrow("outbox: unknown option attempts");
});
