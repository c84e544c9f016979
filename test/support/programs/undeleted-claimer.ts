// Buries a job and one that was to run after it, in a file in which nothing can be deleted.
import { open } from "../../../src/index.ts";

const [path = ""] = process.argv.slice(2);
using db = open(path, { wake: { safetyInterval: false } });
const queue = db.queue("q");
queue.enqueueMany(["child", "child"], { after: [queue.enqueue("parent")] });
queue.claimBatch(1)[0]?.fail("no");
queue.claimBatch(2);
console.log(JSON.stringify("returned"));
