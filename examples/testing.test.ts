// How an application is tested: shop.ts is given a database by each test, newsletter.ts opens its own, at the path that the
// environment says. Run it with: bun test ./examples/testing.test.ts
import { afterEach, describe, expect, setSystemTime, test } from "bun:test";

import { drain, failNext, loseClaims, perform, testDatabase } from "honkbun/testing";

import { createShop, type World } from "./shop.ts";

/** A world in which all goes well, but for what a test says. */
function world(changes: Partial<World> = {}): World & { readonly posted: string[] } {
  const posted: string[] = [];
  return {
    posted,
    post: async (to) => {
      posted.push(to);
      return 202;
    },
    charge: () => {},
    ...changes,
  };
}

describe("a shop", () => {
  test("sends an e-mail again while the mail service is down", async () => {
    using db = testDatabase();
    let requests = 0;
    const { send } = createShop(db, world({ post: async () => (++requests < 3 ? 503 : 202) }));
    const run = send.enqueue({ to: "alice@example.com", subject: "Hello" });
    const ran = await drain(send.queue, { until: "5m" });
    expect(ran.map(({ outcome }) => outcome)).toEqual(["retried", "retried", "completed"]);
    expect(await run.result()).toEqual({ status: 202 });
    expect(send.queue).toBeEmpty();
  });

  test("gives an e-mail up after three attempts", async () => {
    using db = testDatabase();
    const { send } = createShop(db, world());
    send.enqueue({ to: "alice@example.com", subject: "Hello" });
    for (let n = 0; n < 3; n++) failNext(send.queue, new Error("down"));
    const ran = await drain(send.queue, { until: "1h" });
    expect(ran.at(-1)).toMatchObject({ outcome: "dead", error: new Error("down") });
    expect(send.queue.dead.list()).toHaveLength(1);
  });

  test("posts to whom it is told, without a queue", async () => {
    using db = testDatabase();
    const outside = world();
    const { send } = createShop(db, outside);
    expect(await perform(send, { to: "alice@example.com", subject: "Hello" })).toEqual({ status: 202 });
    expect(outside.posted).toEqual(["alice@example.com"]);
    await expect(perform(send, { to: "nobody", subject: "Hello" })).rejects.toThrow("to: Invalid email");
  });

  test("commits an order with its e-mail, or nothing of both", () => {
    using db = testDatabase();
    const { send, orders, place } = createShop(
      db,
      world({
        charge: (card) => {
          if (card === "stolen") throw new Error("card declined");
        },
      }),
    );
    const order = place("alice@example.com", 1_000, "good");
    expect(() => place("mallory@example.com", 1_000, "stolen")).toThrow("card declined");
    expect(db.sqlite.query("SELECT customer FROM orders").all()).toEqual([{ customer: "alice@example.com" }]);
    expect(send).toHaveEnqueued(
      { to: "alice@example.com", subject: expect.stringContaining(String(order)) },
      { times: 1, delay: 0 },
    );
    expect(send).not.toHaveEnqueued({ to: "mallory@example.com", subject: expect.anything() });
    expect(orders).toHavePublished({ order, customer: "alice@example.com", cents: 1_000 }, { times: 1 });
  });

  test("reports every night at half past two, also when the clocks change", async () => {
    using db = testDatabase({ now: new Date("2026-03-27T12:00:00+01:00") });
    createShop(db, world());
    await drain(db, { until: "4d" });
    const days = db.sqlite.query<{ day: string }, []>("SELECT day FROM reports").all();
    expect(days.map(({ day }) => day)).toEqual([
      "2026-03-28T01:30:00.000Z",
      "2026-03-29T01:00:00.000Z", // there is no half past two in that night: as soon as it is over
      "2026-03-30T00:30:00.000Z",
      "2026-03-31T00:30:00.000Z",
    ]);
  });

  test("keeps what each customer has spent, each order once", async () => {
    using db = testDatabase();
    const { place, keepTotals } = createShop(db, world());
    place("alice@example.com", 1_000, "good");
    await using _ = keepTotals();
    place("alice@example.com", 500, "good");
    place("bob@example.com", 200, "good");
    await drain(db);
    expect(db.sqlite.query("SELECT * FROM totals ORDER BY customer").all()).toEqual([
      { customer: "alice@example.com", cents: 1_500 },
      { customer: "bob@example.com", cents: 200 },
    ]);
  });

  test("stops sending when it has lost the job", async () => {
    using db = testDatabase();
    let posts = 0;
    const { send } = createShop(
      db,
      world({
        post: async () => {
          if (++posts === 1) loseClaims(db); // as if the process had slept for longer than its claim holds
          return 202;
        },
      }),
    );
    db.on("error", ({ error }) => expect(error).toMatchObject({ code: "HONKBUN_CLAIM_LOST" }));
    send.enqueue({ to: "alice@example.com", subject: "Hello" });
    expect(await drain(db)).toMatchObject([{ outcome: "completed" }]);
    expect(posts).toBe(2); // at least once means that, too
  });
});

describe("a newsletter", async () => {
  process.env.NEWSLETTER_DB = ":memory:"; // or in .env.test, which bun test loads
  const { db, subscribe, welcome } = await import("./newsletter.ts");
  afterEach(() => {
    setSystemTime();
    welcome.queue.clear();
  });

  test("welcomes a subscriber an hour later, once", async () => {
    subscribe("alice@example.com");
    subscribe("alice@example.com");
    expect(welcome).toHaveEnqueued({ to: "alice@example.com" }, { times: 1 });
    expect(db).toHaveNotified("subscribers", { to: "alice@example.com" });
    expect(await drain(db)).toEqual([]);
    setSystemTime(new Date(Date.now() + 3_600_000));
    expect(await drain(db)).toMatchObject([{ outcome: "completed", result: "welcome, alice@example.com" }]);
  });
});
