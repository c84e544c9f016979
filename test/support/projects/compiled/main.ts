// A worker in one file, with handlers in this thread and in another, that writes so much that checkpoints are due. Argument: path.
import { readdirSync, readFileSync } from "node:fs";

import { open } from "../../../../src/index.ts";

const [path = ""] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false } });
const inline = db.queue<number, number>("inline", { keepResult: true });
const isolated = db.queue<number, number>("isolated", { keepResult: true });
inline.work(({ payload }) => payload + 1);
isolated.work(new URL("./handler.ts", import.meta.url));
const results = await Promise.all([
  inline.waitResult(inline.enqueue(1), { timeout: "10s" }),
  isolated.waitResult(isolated.enqueue(21), { timeout: "10s" }),
]);
const threads = (): string[] =>
  readdirSync("/proc/self/task").map((id) => readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim());
const big = "x".repeat(100_000);
while (!threads().some((name) => name.startsWith("honkbun check"))) {
  db.queue("big").enqueue(big);
  await Bun.sleep(1);
}
db.scheduler.add("nightly", { cron: "0 2 * * *", timezone: "Europe/Berlin", queue: "nightly" });
const nights = db.scheduler.next("nightly", 3).length;
await db.shutdown();
console.log(JSON.stringify({ results, nights }));
