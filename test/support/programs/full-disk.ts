// Enqueues on a disk until that is full, goes on while it is, and again when there is room. Runs jobs all the time, and says what
// came of it. Arguments: a folder that is a small disk of its own.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { open } from "../../../src/index.ts";
import { eventually } from "../eventually.ts";
import { say } from "./channel.ts";

const folder = process.argv[2] ?? "";
const filler = join(folder, "filler");
writeFileSync(filler, Buffer.alloc(4_000_000));

await using db = open(join(folder, "app.db"), { wake: { safetyInterval: false } });
const errors = new Set<string>();
db.on("error", ({ error }) => errors.add(String((error as { code?: unknown }).code)));
const queue = db.queue<string>("q");
const ran: number[] = [];
const worker = queue.work(({ id }) => void ran.push(id));
db.queue("kept").enqueue("from before");

const acknowledged: number[] = [];
const refused = new Set<string>();
const code = (error: unknown): string => String((error as { code?: unknown }).code);
for (let n = 0; n < 40; n++) {
  // What is not run before, because its turn of the event loop never comes, and fills the disk.
  for (let i = 0; i < 20; i++) {
    try {
      acknowledged.push(queue.enqueue("x".repeat(20_000)));
    } catch (error) {
      refused.add(code(error));
    }
  }
  await queue.enqueueAsync("y".repeat(20_000)).then(
    (id) => void acknowledged.push(id),
    (error) => void refused.add(code(error)),
  );
}
rmSync(filler);
await eventually(() => {
  try {
    acknowledged.push(queue.enqueue("there is room again"));
    return true;
  } catch {
    return false;
  }
}, "it can be written again");
await eventually(() => ran.length >= acknowledged.length, "all are run");
await worker.stop();
say({
  refused: [...refused],
  reported: [...errors],
  acknowledged,
  ran: ran.toSorted((a, b) => a - b),
  kept: db.queue("kept").counts().ready,
  findings: db.check().findings,
});
