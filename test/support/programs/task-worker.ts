// Runs the task "add". Argument: path.
import { z } from "zod";

import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
db.task("add", { input: z.object({ a: z.number(), b: z.number() }), output: z.number() }, ({ a, b }, job) => {
  job.progress({ half: a });
  return a + b;
});
db.work();
say("ready");
