// Buries a job and one that was to run after it, when nothing can be deleted any more.
import { open } from "../../../src/index.ts";

const [path = ""] = process.argv.slice(2);
using db = open(path, { wake: { safetyInterval: false } });
const queue = db.queue("q");
queue.enqueueMany(["child", "child"], { after: [queue.enqueue("parent")] });
db.sqlite.run("CREATE TRIGGER t BEFORE DELETE ON _honker_live BEGIN SELECT RAISE(IGNORE); END");
queue.claimBatch(1)[0]?.fail("no");
queue.claimBatch(2);
console.log(JSON.stringify("returned"));
