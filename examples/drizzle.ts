// Drizzle and honkbun on one handle: a row and its job commit together, or not at all, in transactions of either. Run it with:
// bun examples/drizzle.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { drizzle } from "drizzle-orm/bun-sqlite";
import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { AmbiguousTransactionError, open } from "honkbun";

const orders = sqliteTable("orders", { id: integer().primaryKey(), customer: text().notNull() });

const folder = mkdtempSync(join(tmpdir(), "honkbun-drizzle-"));
const db = open(join(folder, "app.db"));
db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL)"); // or Drizzle's migrations
const orm = drizzle({ client: db.sqlite });
const emails = db.queue<{ order: number; customer: string }>("emails");
const count = (): string =>
  `${orm.select().from(orders).all().length} orders, ${emails.counts().ready} e-mails`;

// In db.transaction there is nothing to pass on.
const place = (customer: string): number =>
  db.transaction(() => {
    const { id } = orm.insert(orders).values({ customer }).returning().get();
    emails.enqueue({ order: id, customer });
    if (customer === "mallory") throw new Error("card declined");
    return id;
  });
place("alice");
try {
  place("mallory");
} catch (error) {
  console.log(`shop    ${(error as Error).message}, and nothing is left of it: ${count()}`);
}

// In a transaction of Drizzle's: name the handle.
orm.transaction((inner) => {
  const { id } = inner.insert(orders).values({ customer: "bob" }).returning().get();
  emails.enqueue({ order: id, customer: "bob" }, { tx: orm.$client });
});
console.log(`shop    ${count()}`);

// Who forgets it is told at once, and nothing is sent.
try {
  orm.transaction((inner) => {
    inner.insert(orders).values({ customer: "carol" }).run();
    emails.enqueue({ order: 0, customer: "carol" });
  });
} catch (error) {
  if (!(error instanceof AmbiguousTransactionError)) throw error;
  console.log(`shop    ${error.message}`);
}

let sent = 0;
emails.work(({ payload }) => {
  console.log(`worker  e-mail to ${payload.customer} for order ${payload.order}`);
  if (++sent === 2) void db.shutdown().then(() => rmSync(folder, { recursive: true }));
});
