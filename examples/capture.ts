// Changes of an ORM's table as a stream, though the code that writes knows nothing of it: an audit trail, written exactly once, and a
// cache that forgets what has changed. Run it with: bun examples/capture.ts
import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/bun-sqlite";
import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { type Change, open } from "honkbun";

const users = sqliteTable("users", {
  id: integer().primaryKey(),
  name: text().notNull(),
  role: text().notNull(),
  seenAt: integer("seen_at"),
});
type User = { readonly id: number; readonly name: string; readonly role: string };

const folder = mkdtempSync(join(tmpdir(), "honkbun-capture-"));
const db = open(join(folder, "app.db"));
db.sqlite.run(
  "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, seen_at INTEGER)",
);
db.sqlite.run("CREATE TABLE audit (offset INTEGER PRIMARY KEY, what TEXT NOT NULL)");
const orm = drizzle({ client: db.sqlite });

// At every start: the same again changes nothing. When somebody was seen is no change.
db.capture.add("users", { columns: ["id", "name", "role"], into: { stream: "users" } });
const changes = db.stream<Change<User>>("users", { retain: { maxAge: "90d" } });

const audit = changes.process("audit", ({ offset, payload: { operation, key, old, new: now } }, tx) => {
  const from = old === null ? "" : ` from ${old.name}, ${old.role}`;
  const to = now === null ? "" : ` to ${now.name}, ${now.role}`;
  tx.run("INSERT INTO audit VALUES (?, ?)", [offset, `${operation} ${key.id}${from}${to}`]);
});

const cache = new Map<number, User>();
const user = (id: number): User | undefined => {
  const known = cache.get(id) ?? orm.select().from(users).where(eq(users.id, id)).get();
  if (known !== undefined) cache.set(id, known);
  return known;
};
const invalidation = (async () => {
  for await (const { payload } of changes.subscribe({ from: "end" })) cache.delete(Number(payload.key.id));
})();

orm
  .insert(users)
  .values([
    { name: "alice", role: "member" },
    { name: "bob", role: "member" },
  ])
  .run();
console.log(`cache  ${user(1)?.name} is ${user(1)?.role}`);
orm.update(users).set({ seenAt: 1 }).run(); // not captured
// Another program, which has never heard of any of this.
using other = new Database(db.sqlite.filename);
other.run("UPDATE users SET role = 'admin' WHERE name = 'alice'");
other.run("DELETE FROM users WHERE name = 'bob'");

while (db.sqlite.query("SELECT 1 FROM audit").all().length < 4 || cache.has(1)) await Bun.sleep(1);
console.log(`cache  ${user(1)?.name} is ${user(1)?.role}`);
for (const { what } of db.sqlite
  .query<{ what: string }, []>("SELECT what FROM audit ORDER BY offset")
  .all()) {
  console.log(`audit  ${what}`);
}
await audit.stop();
await db.shutdown();
await invalidation;
rmSync(folder, { recursive: true });
