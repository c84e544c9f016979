// Runs in a thread: claims a job of the queue "q" for an hour and holds it. Argument: path.
import { open } from "../../../src/index.ts";

declare const self: Worker;

const [path = ""] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" } });
const [job] = db.queue("q", { visibilityTimeout: "1h" }).claimBatch(1);
self.postMessage(job?.id);
setInterval(() => {}, 1_000);
