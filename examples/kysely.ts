// Kysely and honkbun: a transaction of Kysely's is open across awaits, so each send names the handle that it is on. Run it with:
// bun examples/kysely.ts
import type { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";
import { type Generated, Kysely, SqliteDialect } from "kysely";

interface Schema {
  readonly orders: { readonly id: Generated<number>; readonly customer: string };
}

/** Kysely's own SQLite dialect on a `bun:sqlite` handle. */
function dialect(sqlite: Database): SqliteDialect {
  const prepare = (sql: string) => {
    const statement = sqlite.query<unknown, never[]>(sql);
    return {
      reader: statement.columnNames.length > 0,
      all: (parameters: readonly unknown[]) => statement.all(...(parameters as never[])),
      run: (parameters: readonly unknown[]) => statement.run(...(parameters as never[])),
      iterate: (parameters: readonly unknown[]) => statement.iterate(...(parameters as never[])),
    };
  };
  return new SqliteDialect({ database: { prepare, close: () => {} } });
}

const folder = mkdtempSync(join(tmpdir(), "honkbun-kysely-"));
const db = open(join(folder, "app.db"));
const builder = new Kysely<Schema>({ dialect: dialect(db.sqlite) });
await builder.schema
  .createTable("orders")
  .addColumn("id", "integer", (column) => column.primaryKey())
  .addColumn("customer", "text", (column) => column.notNull())
  .execute();
const emails = db.queue<{ order: number; customer: string }>("emails");

const place = (customer: string): Promise<number> =>
  builder.transaction().execute(async (inner) => {
    const { id } = await inner
      .insertInto("orders")
      .values({ customer })
      .returning("id")
      .executeTakeFirstOrThrow();
    emails.enqueue({ order: id, customer }, { tx: db.sqlite });
    await Bun.sleep(1); // asks whether the card is good
    if (customer === "mallory") throw new Error("card declined");
    return id;
  });
console.log(`shop    order ${await place("alice")} is placed`);
await place("mallory").catch((error: Error) => console.log(`shop    ${error.message}`));
const rows = await builder.selectFrom("orders").selectAll().execute();
console.log(`shop    ${rows.length} order, ${emails.counts().ready} e-mail`);

emails.work(({ payload }) => {
  console.log(`worker  e-mail to ${payload.customer} for order ${payload.order}`);
  void db.shutdown().then(() => rmSync(folder, { recursive: true }));
});
