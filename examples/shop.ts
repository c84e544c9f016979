// A shop, as a module of an application: what it stores, sends and does by the clock. testing.test.ts tests it.
import type { Honkbun, Running, Stream, Task } from "honkbun";
import { z } from "zod";

/** What the shop needs of the world; tests give it another one. */
export interface World {
  /** Sends an e-mail, and returns the status that the mail service answered. */
  post(to: string, subject: string): Promise<number>;
  /** Throws when a card is declined. */
  charge(card: string, cents: number): void;
}

export interface Email {
  readonly to: string;
  readonly subject: string;
}

export interface OrderPlaced {
  readonly order: number;
  readonly customer: string;
  readonly cents: number;
}

export interface Shop {
  readonly send: Task<Email, Email, { readonly status: number }>;
  readonly orders: Stream<OrderPlaced>;
  /** Places an order: its row, its e-mail and its event commit together, or not at all. */
  place(customer: string, cents: number, card: string): number;
  /** Keeps what each customer has spent. */
  keepTotals(): Running;
}

/** Everything on the database that is given, so that a test can give its own. */
export function createShop(db: Honkbun, world: World): Shop {
  db.sqlite.run("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)");
  db.sqlite.run("CREATE TABLE IF NOT EXISTS totals (customer TEXT PRIMARY KEY, cents INTEGER)");
  db.sqlite.run("CREATE TABLE IF NOT EXISTS reports (day TEXT, cents INTEGER)");

  const send = db.task(
    "send",
    {
      input: z.object({ to: z.email(), subject: z.string() }),
      maxAttempts: 3,
      backoff: { base: "10s" },
      timeout: "30s",
    },
    async ({ to, subject }) => {
      const status = await world.post(to, subject);
      if (status >= 500) throw new Error(`the mail service answered ${status}`);
      return { status };
    },
  );

  const report = db.task("report", {}, (_, job) => {
    db.sqlite.run("INSERT INTO reports SELECT ?, coalesce(sum(cents), 0) FROM orders", [
      job.enqueuedAt.toJSON(),
    ]);
  });
  db.scheduler.add("nightly", { cron: "30 2 * * *", timezone: "Europe/Berlin", task: report });

  const orders = db.stream<OrderPlaced>("orders");

  return {
    send,
    orders,
    place: (customer, cents, card) =>
      db.transaction((tx) => {
        const { lastInsertRowid } = tx.run("INSERT INTO orders (customer, cents) VALUES (?, ?)", [
          customer,
          cents,
        ]);
        const order = Number(lastInsertRowid);
        send.enqueue({ to: customer, subject: `Your order ${order}` });
        orders.publish({ order, customer, cents }, { key: customer });
        world.charge(card, cents);
        return order;
      }),
    keepTotals: () =>
      orders.process("totals", ({ payload: { customer, cents } }, tx) => {
        tx.run("INSERT INTO totals VALUES (?1, ?2) ON CONFLICT DO UPDATE SET cents = cents + ?2", [
          customer,
          cents,
        ]);
      }),
  };
}
