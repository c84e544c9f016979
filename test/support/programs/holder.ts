// Claims jobs of the queue "q" for an hour and holds them, by an iterator or at once, until it is killed. Arguments: path,
// how: "claim", "work" or "batch".
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", how] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" } });
const queue = db.queue("q", { visibilityTimeout: "1h" });
const forever = new Promise<never>(() => {});
if (how === "work") {
  queue.work((job) => {
    say(job.id);
    return forever;
  });
} else if (how === "batch") {
  for (const job of queue.claimBatch(2)) say(job.id);
  setInterval(() => {}, 1_000);
} else {
  for await (const job of queue.claim()) {
    say(job.id);
    await forever;
  }
}
