// Buries a job and one that was to run after it, when nothing can be deleted any more.
import { open } from "../../../src/index.ts";

const [path = ""] = process.argv.slice(2);
using db = open(path, { wake: { safetyInterval: false } });
const queue = db.queue("q");
queue.enqueueMany(["child", "child"], { after: [queue.enqueue("parent")] });
db.sqlite.run("CREATE TRIGGER t BEFORE DELETE ON _honker_live BEGIN SELECT RAISE(IGNORE); END");
db.sqlite.run(
  `INSERT INTO _honker_live (queue, payload, expires_at)
   WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20) SELECT 'late', '1', 5 FROM n`,
);
const told = [
  () => db.queue("late").claimBatch(1),
  () => queue.claimBatch(1)[0]?.fail("no"),
  () => queue.claimBatch(2),
].map((call) => {
  try {
    return call();
  } catch (error) {
    return (error as { readonly code?: string }).code;
  }
});
console.log(JSON.stringify(told));
