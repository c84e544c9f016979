// Adds the numbers of the topic "t" to the table `effects`, as the consumer "p", until it is killed. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false } });
db.stream<number>("t").process(
  "p",
  ({ payload }, tx) => void tx.run("INSERT INTO effects VALUES (?)", [payload]),
);
say("ready");
