// Begins to read, and leaves the transaction open.
import { Database } from "bun:sqlite";

import { say } from "./channel.ts";

const database = new Database(process.argv[2]);
database.run("BEGIN");
database.query("SELECT count(*) FROM _honker_live").get();
say("reads");
setInterval(() => database.inTransaction, 1_000); // what nobody refers to is collected, and closed
