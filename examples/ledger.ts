// A ledger as a stream of events, and balances as a projection of it: each event has its effect exactly once, and the balances
// can be built anew at any time. A group sends receipts, each by one of its members. Run it with: bun examples/ledger.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";
import { z } from "zod";

const folder = mkdtempSync(join(tmpdir(), "honkbun-ledger-"));
const db = open(join(folder, "app.db"));
db.sqlite.run("CREATE TABLE balances (account TEXT PRIMARY KEY, amount INTEGER NOT NULL)");
const ledger = db.stream("ledger", { schema: z.object({ account: z.string(), amount: z.int() }) });

let interest = 0;
const balances = ledger.process("balances", ({ payload: { account, amount } }, tx) => {
  tx.run(
    `INSERT INTO balances VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET amount = amount + excluded.amount`,
    [account, amount + interest],
  );
});
const print = (when: string): void => {
  const rows = db.sqlite
    .query<{ account: string; amount: number }, []>("SELECT account, amount FROM balances ORDER BY account")
    .all();
  console.log(`${when.padEnd(8)} ${rows.map(({ account, amount }) => `${account} ${amount}`).join(", ")}`);
};
/** Resolves once the projection has seen all there is. */
async function caughtUp(): Promise<void> {
  const isBehind = (): boolean =>
    (ledger.consumers().find(({ name }) => name === "balances")?.offset ?? 0) < (ledger.last()?.offset ?? 0);
  while (isBehind()) await Bun.sleep(1);
}

ledger.publishMany(
  Array.from({ length: 1_000 }, (_, n) => ({ account: n % 3 === 0 ? "alice" : "bob", amount: (n % 10) - 4 })),
  { key: ({ account }) => account },
);
await caughtUp();
print("balance");

// The rules have changed: projection and offset go back together, and the consumer follows.
interest = 1;
db.transaction((tx) => {
  tx.run("DELETE FROM balances");
  ledger.seek("balances", "start");
});
await caughtUp();
print("rebuilt");
await balances.stop();

// Receipts go out in the order of each account, accounts beside each other; who fails is tried again.
const receipts = ledger.group("receipts");
const sent = new Map<string, number>();
const member = receipts.work(
  async ({ key, offset }, { attempt }) => {
    if (offset === 500 && attempt === 1) throw new Error("the mail service answered 503");
    await Bun.sleep(0);
    sent.set(key ?? "", (sent.get(key ?? "") ?? 0) + 1);
  },
  { concurrency: 10, order: "key", maxDeliveries: 5, backoff: { base: 20 } },
);
while (receipts.lag() + receipts.pending() > 0) await Bun.sleep(5);
console.log(
  `receipts ${[...sent]
    .sort()
    .map(([account, count]) => `${account} ${count}`)
    .join(", ")}`,
);
await member.stop();
await db.shutdown();
rmSync(folder, { recursive: true });
