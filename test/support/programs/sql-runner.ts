// Another program that has a file open, and runs the SQL that it is told to. Argument: path.
import { Database } from "bun:sqlite";

import { answer, say } from "./channel.ts";

const database = new Database(process.argv[2] ?? "");
database.run("PRAGMA busy_timeout = 200");
database.query("SELECT count(*) FROM sqlite_schema").get();
say("open");
await answer((sql: string) => {
  try {
    database.run(sql);
    return "done";
  } catch (error) {
    return (error as Error).message;
  }
});
