// Imports: files are enqueued together, a worker tells how far it is, and somebody watches, as a web page would. One file is
// broken; it is looked at and tried again. Run it with: bun examples/import.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";

const folder = mkdtempSync(join(tmpdir(), "honkbun-import-"));
const db = open(join(folder, "app.db"));
const imports = db.queue<{ file: string }, { rows: number }>("imports", {
  keepResult: "1d",
  maxAttempts: 2,
  backoff: { base: 10 },
});
using _ = db.on("job:retried", ({ id }) => console.log(`worker  job ${id} failed and will be tried again`));
using __ = db.on("job:dead", ({ id }) => console.log(`worker  job ${id} failed for good`));

const broken = new Set(["orders.csv"]);

/** The worker. Usually it is another process on the same file. */
async function work(): Promise<void> {
  for await (const job of imports.claim()) {
    try {
      for (let percent = 25; percent <= 100; percent += 25) {
        await Bun.sleep(5);
        if (broken.has(job.payload.file)) throw new Error(`line 7 of ${job.payload.file} is no order`);
        job.progress({ percent });
      }
      job.ack({ result: { rows: 1_000 } });
    } catch (error) {
      job.retry({ error });
    }
  }
}

async function watch(id: number): Promise<void> {
  for await (const { payload, state, progress, result, errors } of imports.watch(id)) {
    const news = [state, JSON.stringify(progress), JSON.stringify(result), errors.at(-1)?.message];
    console.log(
      `watch   ${payload.file}: ${news.filter((part) => part !== undefined && part !== "null").join("  ")}`,
    );
  }
}

const files = ["customers.csv", "orders.csv", "products.csv"].map((file) => ({ file }));
const ids = imports.enqueueMany(files);
const later = imports.enqueue({ file: "archive.csv" }, { delay: "1h" });
console.log("queue  ", JSON.stringify(imports.counts()));

const working = work();
await Promise.all(ids.map(watch));

for (const { id, payload, errors } of imports.dead.list()) {
  console.log(`dead    job ${id}, ${payload.file}, after ${errors.length} errors: ${errors.at(-1)?.message}`);
}
broken.clear(); // the file is mended
imports.dead.retry("all");
await watch(ids[1] ?? 0);

imports.update(later, { runAt: Date.now() }); // now after all
await watch(later);
console.log("queue  ", JSON.stringify(imports.counts()));

db.close();
await working;
rmSync(folder, { recursive: true });
