// Takes the lock "l" again and again, and holds it for a moment each time. Nobody else may be in the witness file meanwhile,
// unless it has died. Each holding is noted in the table `holdings`. Arguments: path, witness file.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";

import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", witness = ""] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" }, busyTimeout: "30s" });

function enter(): void {
  if (existsSync(witness)) {
    const other = Number(readFileSync(witness, "utf8"));
    if (isAlive(other)) throw new Error(`two holders: ${other} and ${process.pid}`);
    rmSync(witness);
  }
  writeFileSync(witness, String(process.pid), { flag: "wx" });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // Killed, but its parent does not know yet.
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

say("ready");
for (;;) {
  const lock = await db.lock("l", { ttl: "1h" });
  try {
    enter();
  } catch (error) {
    say({ failed: String(error) });
  }
  db.transaction((tx) => {
    lock.guard();
    tx.run("INSERT INTO holdings (pid, token) VALUES (?, ?)", [process.pid, lock.token]);
  });
  await Bun.sleep(20 + Math.random() * 20);
  rmSync(witness, { force: true });
  lock.release();
}
