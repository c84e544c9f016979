// Schedules in the file, fired by whichever of two processes leads: the leader is killed, the other follows, and every boundary
// has its run once. Run it with: bun examples/scheduler.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";
import { z } from "zod";

const [role, path = ""] = process.argv.slice(2);
if (role === "process") run();
else await main();

/** What each process of the application does when it starts. To add the same schedules again changes nothing. */
function define(db: ReturnType<typeof open>) {
  const report = db.task("report", { input: z.object({ kind: z.enum(["short", "long"]) }) });
  db.scheduler.add("nightly-report", {
    cron: "30 2 * * *",
    timezone: "Europe/Berlin",
    task: report,
    input: { kind: "long" },
    missed: "latest",
  });
  const heartbeats = db.queue<{ from: string }>("heartbeats");
  db.scheduler.add("heartbeat", { every: "500ms", queue: heartbeats, payload: { from: "schedule" } });
  return { report, heartbeats };
}

function run(): void {
  const db = open(path);
  const { report } = define(db);
  report.handle(({ kind }) => console.log(`process  makes a ${kind} report`));
  db.work({ signals: true }); // and the scheduler with it
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-scheduler-"));
  const file = join(folder, "app.db");
  const db = open(file);
  const { heartbeats } = define(db);

  const nights = db.scheduler.next("nightly-report", 400).map((date) => date.getUTCHours());
  console.log(`main     02:30 in Berlin is at ${[...new Set(nights)].sort().join(" or ")} o'clock in UTC`);

  const start = () =>
    Bun.spawn([process.execPath, import.meta.path, "process", file], {
      stdout: "inherit",
      stderr: "inherit",
    });
  const processes = [start(), start()];
  const leader = () => Number(db.locks.list().find(({ name }) => name === "honkbun-scheduler")?.owner);
  const runs = () => heartbeats.list({ limit: 1_000 }).map(({ runAt }) => runAt.getTime());
  while (runs().length < 2) await Bun.sleep(10);
  const led = leader();
  processes.find(({ pid }) => pid === led)?.kill("SIGKILL");
  console.log("main     the leader is killed");
  const before = runs().length;
  while (runs().length < before + 4) await Bun.sleep(10);
  console.log(`main     another one leads: ${leader() !== led}`);
  const times = runs();
  const gaps = new Set(times.slice(1).map((time, index) => time - (times[index] ?? 0)));
  console.log(`main     milliseconds between boundaries: ${[...gaps].join(", ")}`);

  db.scheduler.pause("heartbeat");
  const [paused] = db.scheduler.list();
  console.log(`main     ${paused?.name} is ${paused?.enabled ? "enabled" : "paused"}`);
  db.scheduler.trigger("nightly-report"); // now, whatever the clock says
  while (db.queue("report").counts().ready > 0) await Bun.sleep(10);
  db.scheduler.remove("heartbeat");

  try {
    db.scheduler.add("typo", { cron: "0 25 * * *", queue: "q" });
  } catch (error) {
    console.log(`main     ${(error as Error).message}`);
  }
  for (const one of processes) one.kill("SIGTERM");
  await Promise.all(processes.map((one) => one.exited));
  await db.shutdown();
  rmSync(folder, { recursive: true });
}
