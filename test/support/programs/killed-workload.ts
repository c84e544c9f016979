// Runs the workload, and is killed right after one of its writes to the file: the n-th statement that writes, or ends a transaction.
// Says the name of each step that has returned, and at the end how many such statements there were.
import { writeSync } from "node:fs";

import { open } from "../../../src/index.ts";
import { Connection, type Statement } from "../../../src/sqlite/connection.ts";
import { workload, WorkloadClock } from "../workload.ts";

const [path = "", killedAt = "0"] = process.argv.slice(2);
const WRITES = /\b(INSERT|UPDATE|DELETE|CREATE|ALTER|COMMIT|RELEASE)\b/i;
let writes = 0;

function count<Params extends unknown[], Result>(
  call: (...params: Params) => Result,
): (...params: Params) => Result {
  return (...params) => {
    const result = call(...params);
    if (++writes === Number(killedAt)) process.kill(process.pid, "SIGKILL");
    return result;
  };
}

const { prepare, execute } = Connection.prototype;
Connection.prototype.prepare = function (this: Connection, sql: string): Statement {
  const statement = prepare.call(this, sql) as Statement;
  if (!WRITES.test(sql)) return statement;
  return {
    run: count((...params) => statement.run(...params)),
    get: count((...params) => statement.get(...params)),
    all: count((...params) => statement.all(...params)),
  };
} as typeof prepare;
Connection.prototype.execute = function (this: Connection, sql: string): void {
  count(() => execute.call(this, sql))();
};

const clock = new WorkloadClock();
const db = open(path, { clock: clock.read });
// At once: what is written later may be lost with the process.
const tell = (message: unknown): void => void writeSync(1, `${JSON.stringify(message)}\n`);
for (const { name, run } of workload(db, clock)) {
  await run();
  tell(name);
}
tell(writes);
process.kill(process.pid, "SIGKILL"); // closing would write
