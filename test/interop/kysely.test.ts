import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Generated, Kysely, SqliteDialect } from "kysely";

import { AmbiguousTransactionError, type Honkbun, open } from "../../src/index.ts";
import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

interface Schema {
  readonly orders: { readonly id: Generated<number>; readonly customer: string };
}

/** What Kysely's own dialect needs of a driver. */
function kysely(sqlite: Database): Kysely<Schema> {
  return new Kysely<Schema>({
    dialect: new SqliteDialect({
      database: {
        close: () => {},
        prepare: (sql) => {
          const statement = sqlite.query<unknown, never[]>(sql);
          return {
            reader: statement.columnNames.length > 0,
            all: (parameters) => statement.all(...(parameters as never[])),
            run: (parameters) => statement.run(...(parameters as never[])),
            iterate: (parameters) => statement.iterate(...(parameters as never[])),
          };
        },
      },
    }),
  });
}

async function createOrders(builder: Kysely<Schema>): Promise<void> {
  await builder.schema
    .createTable("orders")
    .addColumn("id", "integer", (column) => column.primaryKey())
    .addColumn("customer", "text", (column) => column.notNull())
    .execute();
}

describe("Kysely", () => {
  const cases: [string, (file: string) => { db: Honkbun; handle: Database }][] = [
    ["on db.sqlite", (file) => (({ db }) => ({ db, handle: db.sqlite }))({ db: open(file, { wake: WAKE }) })],
    ["on a handle of its own", (file) => ({ db: open(file, { wake: WAKE }), handle: new Database(file) })],
    [
      "on a handle that was opened by honkbun",
      (file) =>
        (({ handle }) => ({ handle, db: open(handle, { wake: WAKE }) }))({ handle: new Database(file) }),
    ],
  ];
  for (const [where, start] of cases) {
    test(`${where} commits a row and a job together, by { tx }, or neither`, async () => {
      using folder = new Folder();
      const { db, handle } = start(folder.file());
      using _ = db;
      const builder = kysely(handle);
      await createOrders(builder);
      const emails = db.queue<{ order: number }>("emails");
      const next = emails.claim().next();
      const place = (customer: string, fails: boolean): Promise<number> =>
        builder.transaction().execute(async (inner) => {
          const { id } = await inner
            .insertInto("orders")
            .values({ customer })
            .returning("id")
            .executeTakeFirstOrThrow();
          emails.enqueue({ order: id }, { tx: handle });
          await Bun.sleep(5); // the transaction is open across this
          if (fails) throw new Error("card declined");
          return id;
        });
      await expect(place("mallory", true)).rejects.toThrow("card declined");
      expect(await builder.selectFrom("orders").selectAll().execute()).toEqual([]);
      expect(await place("alice", false)).toBe(1);
      expect((await within(next, "the worker wakes")).value.payload).toEqual({ order: 1 });
    });
  }

  test("is told at once when { tx } is forgotten in a transaction that is open across an await", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    const builder = kysely(db.sqlite);
    await createOrders(builder);
    const forgotten = builder.transaction().execute(async (inner) => {
      await inner.insertInto("orders").values({ customer: "alice" }).execute();
      db.queue("emails").enqueue(1);
    });
    await expect(forgotten).rejects.toThrow(AmbiguousTransactionError);
    expect(await builder.selectFrom("orders").selectAll().execute()).toEqual([]);
    expect(db.queue("emails").counts().ready).toBe(0);
  });

  test("leaves the library's loops alone while its transaction is open", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const builder = kysely(db.sqlite);
    await createOrders(builder);
    const queue = db.queue<number>("q");
    queue.enqueue(1);
    const done: number[] = [];
    await builder.transaction().execute(async (inner) => {
      await inner.selectFrom("orders").selectAll().execute(); // it has read, and not written
      const worker = queue.work(({ payload }) => void done.push(payload));
      await Bun.sleep(100);
      await worker.stop();
    });
    expect(done).toEqual([1]);
  });
});
