// An outbox: an order and the webhook that tells of it commit together, or not at all; the webhook is delivered after the
// commit, and again when the other side is down. Run it with: bun examples/outbox.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";

interface OrderPlaced {
  readonly order: number;
  readonly customer: string;
}

const folder = mkdtempSync(join(tmpdir(), "honkbun-outbox-"));
const db = open(join(folder, "shop.db"));
db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)");

/** The other side. It is down for the first two requests. */
let requests = 0;
const received: string[] = [];
const partner = Bun.serve({
  port: 0,
  fetch: async (request) => {
    if (++requests <= 2) return new Response("down", { status: 503 });
    received.push(`${request.headers.get("webhook-id")}: ${await request.text()}`);
    return new Response("thanks");
  },
});

const webhooks = db.outbox<OrderPlaced>(
  "webhooks",
  async (payload, job) => {
    const response = await fetch(partner.url, {
      method: "POST",
      body: JSON.stringify(payload),
      headers: { "webhook-id": String(job.id) }, // the same for each attempt: by it the other side knows a repetition
      signal: job.signal,
    });
    if (!response.ok) throw new Error(`the partner answered ${response.status}`);
  },
  { backoff: { base: 20 } },
);

function place(customer: string, card: "good" | "declined"): void {
  db.transaction((tx) => {
    const order = Number(tx.run("INSERT INTO orders (customer) VALUES (?)", [customer]).lastInsertRowid);
    webhooks.enqueue({ order, customer });
    if (card === "declined") throw new Error("card declined");
  });
}

place("alice", "good");
try {
  place("mallory", "declined");
} catch (error) {
  console.log(`shop     mallory's order is rolled back: ${(error as Error).message}`);
}
place("bob", "good");

db.on("job:retried", ({ id, error }) => console.log(`outbox   job ${id} will be tried again: ${error}`));
const worker = webhooks.work({ concurrency: 1, timeout: "10s" });
while (received.length < 2) await Bun.sleep(5);
await worker.stop();
for (const webhook of received.sort()) console.log(`partner  has received ${webhook}`);

await partner.stop();
db.close();
rmSync(folder, { recursive: true });
