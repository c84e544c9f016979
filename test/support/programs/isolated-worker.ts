// Works on the queue "q" by a module, until it is told to stop. Arguments: path, the module's URL.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", module = ""] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" } });
const worker = db.queue("q", { keepResult: true }).work(new URL(module));
say("working");
for await (const _ of console) {
  await worker.stop();
  break;
}
