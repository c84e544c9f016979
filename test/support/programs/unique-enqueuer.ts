// Enqueues to the queue "q" with so many unique keys, each taken for an hour, and notes those that it has created. Arguments:
// path, how many.
import { open } from "../../../src/index.ts";

const [path = "", count = "0"] = process.argv.slice(2);
using db = open(path);
const queue = db.queue<string>("q");
for (let n = 0; n < Number(count); n++) {
  const uniqueKey = `k${n}`;
  db.transaction((tx) => {
    const { created } = queue.tryEnqueue(uniqueKey, { uniqueKey, uniqueFor: "1h" });
    if (created) tx.run("INSERT INTO created VALUES (?, ?)", [uniqueKey, process.pid]);
  });
}
