// How much CPU time does a process use that only waits, for a notification and for a job, beside a bare Bun process?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { say } from "../support/programs/channel.ts";
import { rounds, scaled, spawnRole, verdict } from "./support.ts";

const DURATION = scaled(10_000, 200);
/**
 * What starting costs is measured apart: code that runs for the first time, looks that become seldom, and the collection of
 * what starting has left, which comes once, some ten seconds later.
 */
const START = scaled(12_000, 100);

const [role, file = ""] = Bun.argv.slice(2);
if (role === undefined) await measure();
else await idle(role === "honkbun");

async function measure(): Promise<void> {
  const figures = await rounds(
    `CPU time of ${DURATION / 1_000} s`,
    ["bare ms", "honkbun ms", "difference ms", "start bare ms", "start honkbun ms"],
    async () => {
      using folder = new Folder();
      // At the same time: what else the machine does hits both.
      await using bare = spawnRole("bare");
      await using honkbun = spawnRole("honkbun", folder.file());
      const both = (): Promise<[number, number]> =>
        Promise.all([bare.read<number>(), honkbun.read<number>()]);
      const start = await both();
      const [bareTime, honkbunTime] = await both();
      return { idle: [bareTime, honkbunTime, honkbunTime - bareTime, ...start] };
    },
  );
  verdict("CPU ms above a bare process", figures("idle", "difference ms"), "at most", 20);
}

async function idle(withHonkbun: boolean): Promise<void> {
  using db = withHonkbun ? open(file) : undefined;
  db?.listen("channel", () => {});
  const job = db?.queue("emails").claim().next();
  say(await cpuTime(START));
  say(await cpuTime(DURATION));
  db?.close();
  await job;
}

/** Milliseconds of CPU that this process uses in so many. */
async function cpuTime(duration: number): Promise<number> {
  const before = process.cpuUsage();
  await Bun.sleep(duration);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
