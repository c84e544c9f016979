// Runs jobs, each for a moment, and says when it claims and when it acks one. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "");
for await (const job of db.queue<number>("q", { visibilityTimeout: "1s" }).claim()) {
  say({ claimed: job.payload });
  await new Promise((resolve) => setTimeout(resolve, 20));
  job.ack();
  say({ acked: job.payload });
}
