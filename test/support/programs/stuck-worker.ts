// Runs so many jobs, says so of each, and then claims one that it never ends. Arguments: path, how many.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", count] = process.argv.slice(2);
let left = Number(count);
for await (const job of open(path).queue<number>("q", { visibilityTimeout: "1s" }).claim()) {
  if (left-- === 0) {
    say({ stuck: job.payload });
    await new Promise(() => {});
  }
  job.ack();
  say({ acked: job.payload });
}
