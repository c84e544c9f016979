// Runs jobs of the queue "q" and notes each run in a table, with the ack, until it is killed. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const run = db.sqlite.prepare("INSERT INTO runs (job, attempt, pid) VALUES (?, ?, ?)");
say("ready");
for await (const job of db.queue("q", { visibilityTimeout: "1s", backoff: { base: 0 } }).claim()) {
  db.transaction(() => {
    run.run(job.id, job.attempt, process.pid);
    job.ack();
  });
}
