// Claims from a queue of a file in which there are jobs, to be buried, with ids that no number holds.
import { open } from "../../../src/index.ts";

const [path = "", kind = ""] = process.argv.slice(2);
using db = open(path, { wake: { safetyInterval: false } });
db.queue("q").enqueue("good");
// Each is another number than the nearest that JavaScript has.
for (let n = 0; n < 12; n++) {
  const id = kind === "dependent" ? `-9007199254740993 - 4 * ${n}` : `9007199254740993 + 4 * ${n}`;
  const columns = "INSERT INTO _honker_live (id, queue, payload, state, max_attempts, expires_at)";
  if (kind === "expired") db.sqlite.run(`${columns} VALUES (${id}, 'q', '1', 'pending', 3, 5)`);
  if (kind === "out of attempts") db.sqlite.run(`${columns} VALUES (${id}, 'q', '1', 'pending', 0, NULL)`);
  if (kind === "dependent") {
    db.sqlite.run(`${columns} VALUES (${id}, 'other', '1', 'waiting', 3, NULL)`);
    db.sqlite.run(
      `INSERT INTO _honkbun_dependencies (parent, child, buries, outcome) VALUES (1000, ${id}, 1, 2)`,
    );
  }
}
const jobs = db.queue("q").claimBatch(9);
if (kind === "dependent") {
  // Those that can be told apart are seen to all the same.
  const [id] = db.queue("child").enqueueMany(["child"], { after: [jobs[0]?.id ?? 0] });
  jobs[0]?.fail("no");
  if (db.queue("child").dead.list()[0]?.id !== id) throw new Error("the child was not buried");
}
console.log(JSON.stringify(jobs.map(({ payload }) => payload)));
