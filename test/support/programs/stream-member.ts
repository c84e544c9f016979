// A member of the group "g" of the topic "t", which notes in another file when it begins and ends each event. Arguments: path,
// path of the notes.
import { Database } from "bun:sqlite";

import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", notes = ""] = process.argv.slice(2);
const log = new Database(notes);
log.run("PRAGMA busy_timeout = 10000");
const note = log.prepare("INSERT INTO notes VALUES (?, ?, ?, ?)");
const db = open(path, { wake: { safetyInterval: false } });
db.stream<number>("t")
  .group("g")
  .work(
    async ({ payload, key }) => {
      note.run(payload, key, "begin", process.pid);
      await Bun.sleep(payload % 5);
      note.run(payload, key, "end", process.pid);
    },
    { concurrency: 3, order: "key", maxDeliveries: 100 },
  );
say("ready");
