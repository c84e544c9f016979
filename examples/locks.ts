// A nightly report that every one of three processes is ready to make, and one of them makes: the others find the lock taken. One
// that makes it dies in the midst of it, and the next takes over at once; whoever is late cannot write any more. Run it with:
// bun examples/locks.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { LockLostError, open } from "honkbun";

const [role, path = ""] = process.argv.slice(2);
if (role === undefined) await main();
else await reporter(role);

async function reporter(name: string): Promise<void> {
  using db = open(path);
  const first = db.tryLock("nightly-report", { owner: name });
  if (first === null)
    console.log(`${name.padEnd(9)} ${db.locks.list()[0]?.owner} makes the report; waits in case it fails`);
  using lock = first ?? (await db.lock("nightly-report", { owner: name }));
  if (isMade(db)) return console.log(`${name.padEnd(9)} the report is made, nothing to do`);
  console.log(`${name.padEnd(9)} makes the report`);
  await Bun.sleep(1_000);
  // Report and check are one transaction: nobody whose lock was lost meanwhile gets here.
  db.transaction((tx) => {
    lock.guard();
    tx.run("INSERT INTO reports (maker, token) VALUES (?, ?)", [name, lock.token]);
  });
  console.log(`${name.padEnd(9)} has made the report`);
}

function isMade(db: ReturnType<typeof open>): boolean {
  return db.sqlite.query("SELECT 1 FROM reports").get() !== null;
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-locks-"));
  const file = join(folder, "app.db");
  const db = open(file);
  db.sqlite.run("CREATE TABLE reports (id INTEGER PRIMARY KEY, maker TEXT, token INTEGER)");
  const start = (name: string) =>
    Bun.spawn([process.execPath, import.meta.path, name, file], { stdout: "inherit", stderr: "inherit" });
  const holder = () => db.locks.list()[0]?.owner;

  const unlucky = start("process 1");
  while (holder() !== "process 1") await Bun.sleep(5);
  const others = [start("process 2"), start("process 3")];
  await Bun.sleep(500);
  unlucky.kill("SIGKILL");
  console.log("main      process 1 is killed");
  await Promise.all(others.map((one) => one.exited));
  console.log(`main      reports: ${db.sqlite.query("SELECT maker FROM reports").values().length}`);

  // A holder that slept until its lock had expired, and another had taken it, finds that out when it writes.
  const stale = db.tryLock("warehouse", { ttl: "1s" });
  db.sqlite.run("UPDATE _honker_locks SET owner = 'somebody else' WHERE name = 'warehouse'");
  try {
    db.transaction(() => stale?.guard());
  } catch (error) {
    if (!(error instanceof LockLostError)) throw error;
    console.log(`main      ${error.message}`);
  }

  const total = await db.withLock("counter", () => 42);
  console.log(`main      withLock returns ${total}`);
  await db.shutdown();
  rmSync(folder, { recursive: true });
}
