// Claims from a queue of a file in which a job that cannot be settled is to be buried with one that has failed.
import { open } from "../../../src/index.ts";

const [path = "", id = ""] = process.argv.slice(2);
using db = open(path, { wake: { safetyInterval: false } });
db.queue("q").enqueue("good");
db.sqlite.run(
  "INSERT INTO _honker_live (id, queue, payload, state) VALUES (CAST(? AS INTEGER), 'other', '1', 'waiting')",
  [id],
);
db.sqlite.run(
  "INSERT INTO _honkbun_dependencies (parent, child, buries, outcome) VALUES (1000, CAST(? AS INTEGER), 1, 2)",
  [id],
);
const jobs = db.queue("q").claimBatch(9);
console.log(JSON.stringify(jobs.map(({ payload }) => payload)));
