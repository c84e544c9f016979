// Does with jobs of the queue "q" what their payloads say. Argument: path.
import { open, UnrecoverableError } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const queue = db.queue<string, string>("q");
queue.work((job) => {
  if (job.payload === "throw") throw new UnrecoverableError("no");
  if (job.payload === "cancel") queue.cancel(job.id);
  return "done";
});
db.on("error", () => {});
say("ready");
