import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import type { TestHonkbun } from "../../src/testing/test-database.ts";
import { database } from "../support/database.ts";
import { eventually, within } from "../support/eventually.ts";
import { Honker } from "../support/honker.ts";

function honkerOf(db: TestHonkbun): Honker {
  return new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
}
const edges = (db: TestHonkbun): number =>
  db.sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honkbun_dependencies").get()?.n ?? -1;

describe("a job after others", () => {
  test("is blocked until all of them have been acked, in whatever queues", () => {
    using db = database();
    const [a, b] = [db.queue("a"), db.queue("b")];
    const first = a.enqueue(1);
    const second = b.enqueue(2);
    const id = b.enqueue("after", { after: [first, second, second] });
    expect(b.counts()).toMatchObject({ ready: 1, blocked: 1 });
    expect(b.get(id)?.state).toBe("blocked");
    expect(b.list({ state: "blocked" })).toMatchObject([{ id }]);
    a.claimBatch(1)[0]?.ack();
    expect(b.claimBatch(5)).toMatchObject([{ payload: 2 }]);
    expect(b.get(id)?.state).toBe("blocked");
    db.clock.advance("10m");
    b.claimBatch(1)[0]?.ack();
    expect(b.claimBatch(5)).toMatchObject([{ id, attempt: 1 }]);
    db.clock.advance("10m");
    b.claimBatch(5)[0]?.ack();
    expect(edges(db)).toBe(0);
  });

  test("runs at once when they have been acked before, and keeps its delay", () => {
    using db = database();
    const queue = db.queue("q");
    const before = queue.enqueue(1);
    queue.claimBatch(1)[0]?.ack();
    queue.enqueue(2, { after: [before] });
    expect(queue.claimBatch(5)).toMatchObject([{ payload: 2 }]);
    const running = queue.enqueue(3);
    queue.enqueue(4, { after: [running], delay: "1m" });
    queue.claimBatch(1)[0]?.ack();
    expect(queue.counts()).toMatchObject({ delayed: 1 });
    db.clock.advance("1m");
    expect(queue.claimBatch(5)).toMatchObject([{ payload: 4 }]);
  });

  test("counts those that are kept, with their results, as ended", () => {
    using db = database();
    const queue = db.queue("q", { keepResult: true });
    const parent = queue.enqueue(1);
    const id = queue.enqueue(2, { after: [parent] });
    queue.claimBatch(1)[0]?.ack({ result: 1 });
    expect(queue.claimBatch(5)).toMatchObject([{ id }]);
    expect(queue.enqueue(3, { after: [parent] })).toBeGreaterThan(id);
    expect(queue.claimBatch(5)).toMatchObject([{ payload: 3 }]);
  });

  for (const how of ["fail", "last retry", "cancel", "expire", "clear"] as const) {
    test(`is buried when one of them ends by ${how}, and so are those after it; with ifFailed: "run" it runs`, () => {
      using db = database();
      const [parents, queue] = [db.queue("parents"), db.queue("q")];
      const events: unknown[] = [];
      db.on("job:dead", ({ id, error }) => void events.push([id, (error as Error).message]));
      const [parent = 0] = parents.enqueueMany([1], { maxAttempts: 1, expiresIn: "10s" });
      const other = parents.enqueue(2);
      const child = queue.enqueue("child", { after: [parent, other] });
      const grandchild = queue.enqueue("grandchild", { after: [child] });
      const runs = queue.enqueue("runs", { after: [parent], ifFailed: "run" });
      const last = queue.enqueue("last", { after: [grandchild], ifFailed: "run" });
      if (how === "fail") parents.claimBatch(1)[0]?.fail("no");
      else if (how === "last retry") parents.claimBatch(1)[0]?.retry({ error: "no" });
      else if (how === "cancel") parents.cancel(parent);
      else if (how === "clear") parents.clear();
      else {
        db.clock.advance("12s");
        expect(parents.claimBatch(1)).toMatchObject([{ id: other }]);
      }
      const message =
        how === "clear"
          ? `jobs ${parent}, ${other} were buried or cancelled, after which this one was to run`
          : `job ${parent} was buried or cancelled, after which this one was to run`;
      expect(queue.get(child)).toMatchObject({
        state: "dead",
        attempts: 0,
        errors: [{ attempt: 0, message }],
      });
      expect(queue.get(grandchild)).toMatchObject({
        state: "dead",
        errors: [{ message: `job ${child} was buried or cancelled, after which this one was to run` }],
      });
      expect(queue.claimBatch(5)).toMatchObject([{ id: runs }, { id: last }]);
      expect(events).toContainEqual([child, message]);
      expect(events).toContainEqual([grandchild, expect.stringContaining(`job ${child} was`)]);
      // By hand it can be run all the same.
      expect(queue.dead.retry([child])).toBe(1);
      expect(queue.claimBatch(5)).toMatchObject([{ id: child }]);
    });
  }

  test("is buried at once when one of them was buried or cancelled before, and told so", () => {
    using db = database();
    const queue = db.queue("q");
    const [dead = 0, cancelled = 0] = queue.enqueueMany([1, 2]);
    queue.claimBatch(1)[0]?.fail("no");
    queue.cancel(cancelled);
    const events: number[] = [];
    db.on("job:dead", ({ id }) => void events.push(id));
    const id = queue.enqueue(3, { after: [dead, cancelled] });
    expect(queue.get(id)?.errors).toMatchObject([
      { message: `jobs ${dead}, ${cancelled} were buried or cancelled, after which this one was to run` },
    ]);
    expect(events).toEqual([id]);
    const runs = queue.enqueue(4, { after: [dead, cancelled], ifFailed: "run" });
    expect(queue.claimBatch(5)).toMatchObject([{ id: runs }]);
  });

  test("follows honker's acks, failures and cancellations", () => {
    using db = database({ file: true });
    using honker = honkerOf(db);
    const [parents, queue] = [db.queue("parents"), db.queue("q")];
    const ids = parents.enqueueMany([1, 2, 3]);
    const [acked = 0, failed = 0, cancelled = 0] = ids;
    const after = ids.map((id) => queue.enqueue(id, { after: [id] }));
    const all = queue.enqueue("all", { after: ids });
    const anyway = queue.enqueue("anyway", { after: ids, ifFailed: "run" });
    honker.claim("parents", "h", 3);
    honker.ack(acked, "h");
    expect(queue.get(after[0] ?? 0)?.state).toBe("ready");
    honker.fail(failed, "h", "no");
    // Nobody who does not know why may claim it meanwhile.
    expect(honker.claim("q", "h", 10)).toEqual([after[0] ?? 0]);
    honker.cancel(cancelled); // to honker, that is as good as an ack
    expect(queue.claimBatch(10).map(({ id }) => id)).toEqual([after[2] ?? 0, anyway]);
    expect(queue.get(after[1] ?? 0)?.errors).toMatchObject([
      { message: expect.stringContaining(`job ${failed} was`) },
    ]);
    expect(queue.get(all)?.state).toBe("dead");
  });

  test("of a queue that nobody works on is buried by whoever works", async () => {
    using db = database({ file: true });
    using honker = honkerOf(db);
    const parent = db.queue("parents").enqueue(1);
    const id = db.queue("q").enqueue(2, { after: [parent] });
    const worker = db.queue("elsewhere").work(() => {});
    honker.claim("parents", "h");
    honker.fail(parent, "h", "no");
    await eventually(() => db.queue("q").get(id)?.state === "dead", "it is buried");
    await worker.stop();
  });

  test("is buried by whoever waits for its result, when nobody works", async () => {
    using db = database({ file: true });
    using honker = honkerOf(db);
    const queue = db.queue("q", { keepResult: true });
    const parent = db.queue("parents").enqueue(1);
    const id = queue.enqueue(2, { after: [parent] });
    const result = queue.waitResult(id).catch((error) => error);
    honker.claim("parents", "h");
    honker.fail(parent, "h", "no");
    expect(await within(result, "it rejects")).toMatchObject({ code: "HONKBUN_JOB_FAILED" });
  });

  test("that joins a group, or has another parent, is let go by honker as by us", () => {
    using db = database({ file: true });
    using honker = honkerOf(db);
    const [parents, queue] = [db.queue("parents"), db.queue("q")];
    const [a = 0, b = 0] = parents.enqueueMany([1, 2]);
    const grouped = queue.enqueue("grouped", { after: [a], group: "g" });
    const both = queue.enqueue("both", { after: [a, b] });
    honker.claim("parents", "h", 2);
    honker.fail(a, "h", "no");
    expect(honker.claim("q", "h", 5)).toEqual([]);
    honker.ack(b, "h");
    expect(honker.claim("q", "h", 5)).toEqual([]);
    queue.claimBatch(1);
    for (const id of [grouped, both]) expect(queue.get(id)?.state).toBe("dead");
  });

  test("that is buried on another handle's transaction is told of once that has committed", async () => {
    using db = database({ file: true });
    using other = new Database(db.sqlite.filename);
    const queue = db.queue("q");
    const events: number[] = [];
    db.on("job:dead", ({ id }) => void events.push(id));
    const parent = queue.enqueue(1);
    const id = queue.enqueue(2, { after: [parent] });
    for (const end of ["ROLLBACK", "COMMIT"]) {
      other.run("BEGIN IMMEDIATE");
      queue.cancel(parent, { tx: other });
      expect(events).toEqual([]);
      other.run(end);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(events).toEqual(end === "COMMIT" ? [id] : []);
    }
  });

  test("is woken for, and its result can be waited for", async () => {
    using db = database({ file: true });
    const queue = db.queue<string, string>("q", { keepResult: true });
    const ids = queue.enqueueMany(["a", "b"]);
    const id = queue.enqueue("c", { after: ids });
    const result = queue.waitResult(id);
    const worker = queue.work((job) => job.payload.toUpperCase());
    expect(await within(result, "its result")).toBe("C");
    await worker.stop();
  });

  test("joins its group when it is let go", () => {
    using db = database();
    const queue = db.queue("q");
    const parent = queue.enqueue("parent");
    queue.enqueue("after", { after: [parent], group: "g" });
    queue.enqueueMany([1, 2], { group: "g" });
    const [first, one] = queue.claimBatch(5);
    expect([first?.payload, one?.payload]).toEqual(["parent", 1]);
    first?.ack();
    expect(queue.claimBatch(5)).toEqual([]);
    queue.enqueue(3, { group: "g" });
    const order: unknown[] = [];
    for (let job = one; job !== undefined; [job] = queue.claimBatch(1)) {
      order.push(job.payload);
      job.ack();
    }
    expect(order).toEqual([1, 2, "after", 3]);
  });

  test("is cancelled, updated and cleared as others, and nothing is left of what it waited for", () => {
    using db = database();
    const queue = db.queue<string>("q");
    const parent = queue.enqueue("parent");
    const id = queue.enqueue("child", { after: [parent] });
    expect(queue.update(id, { payload: "changed" })).toBe(true);
    expect(queue.cancel(id)).toBe(true);
    expect(edges(db)).toBe(0);
    queue.enqueue("child", { after: [parent] });
    expect(queue.clear()).toBe(2);
    expect(edges(db)).toBe(0);
    expect(queue.dead.list()).toEqual([]);
  });

  test("expires while it waits", () => {
    using db = database();
    const queue = db.queue("q");
    const id = queue.enqueue(2, { after: [queue.enqueue(1)], expiresIn: "5s" });
    db.clock.advance("6s");
    queue.claimBatch(1);
    expect(queue.get(id)?.errors).toMatchObject([{ message: "expired" }]);
  });

  test("joins a transaction, with those before it", () => {
    using db = database();
    const queue = db.queue("q");
    expect(() =>
      db.transaction(() => {
        queue.enqueue(2, { after: [queue.enqueue(1)] });
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(edges(db)).toBe(0);
    db.transaction(() => queue.enqueue(2, { after: [queue.enqueue(1)] }));
    expect(queue.counts()).toMatchObject({ ready: 1, blocked: 1 });
  });

  test("is buried at once as one of a hundred, however slow the machine, and after large ones in portions", () => {
    using db = database();
    const [few, large] = [db.queue("few"), db.queue("large")];
    const [first, parent] = [few.enqueue(0), large.enqueue(0)];
    let last = first;
    for (let n = 1; n <= 100; n++) last = few.enqueue(n, { after: [last] });
    const text = "x".repeat(400_000);
    for (let n = 0; n < 6; n++) large.enqueue(text, { after: [parent] });
    few.cancel(first);
    expect(few.counts()).toMatchObject({ blocked: 0, dead: 100 });
    large.cancel(parent);
    expect(large.counts()).toMatchObject({ blocked: 3, dead: 3 });
  });

  test("may be one of a chain of thousands, which is buried as a whole, in portions", async () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    let last = queue.enqueue(0);
    const first = last;
    db.transaction(() => {
      for (let n = 0; n < 3_000; n++) last = queue.enqueue(n, { after: [last] });
    });
    const worker = db.queue("elsewhere").work(() => {});
    queue.cancel(first);
    await eventually(() => queue.counts().dead === 3_000, "all are buried");
    await worker.stop();
    expect(queue.get(last)?.state).toBe("dead");
  });
});

test("a fan-in of 10,000 is let go by the last of them", () => {
  using db = database({ file: true });
  const queue = db.queue("q");
  const ids = queue.enqueueMany(Array.from({ length: 10_000 }, (_, n) => n));
  const id = db.queue("done").enqueue("all", { after: ids, ifFailed: "run" });
  const jobs = queue.claimBatch(10_000);
  const last = jobs.pop();
  queue.ackBatch(jobs);
  expect(db.queue("done").claimBatch(1)).toEqual([]);
  last?.fail("no");
  expect(db.queue("done").claimBatch(1)).toMatchObject([{ id }]);
}, 20_000);
