// Runs the scheduler until it is stopped or killed. As every deployment does it adds its schedules first. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = ""] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" }, busyTimeout: "30s" });
db.scheduler.add("every", { every: "1s", queue: "every", payload: { from: "every" } });
db.scheduler.add("slow", { every: "7s", queue: "slow" });
db.scheduler.add("cron", { cron: "*/2 * * * * *", queue: "cron" });
const running = db.scheduler.start();
process.on("SIGTERM", async () => {
  await running.stop();
  db.close();
});
say("ready");
