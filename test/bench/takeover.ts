// How soon is a job begun by another worker when the one that holds it is killed, with a visibility timeout of an hour? And how
// soon does an idle worker take over what another has claimed ahead, whose handler has begun to take long?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { say } from "../support/programs/channel.ts";
import { instant, percentile, rounds, scaled, spawnRole, verdict } from "./support.ts";

const KILLS = scaled(20, 2);
const STALLS = scaled(20, 2);
/** Jobs of microseconds that a worker has had before one takes long, and those that wait behind that one. */
const QUICK = 1_000;
const BEHIND = 20;

const [role, path = ""] = Bun.argv.slice(2);
if (role === undefined) await measure();
else hold(path);

async function measure(): Promise<void> {
  const figures = await rounds("milliseconds", ["p50", "p99"], async () => {
    const killed = await series(KILLS, kill);
    const stalled = await series(STALLS, stall);
    const row = (all: number[]): number[] => [percentile(all, 0.5), percentile(all, 0.99)];
    return { "SIGKILL to next start": row(killed), "behind a slow handler": row(stalled) };
  });
  verdict("SIGKILL to next start, p99 ms", figures("SIGKILL to next start", "p99"), "at most", 1_000);
  verdict("taken over from a slow worker, p99 ms", figures("behind a slow handler", "p99"), "at most", 20);
}

async function series(count: number, one: () => Promise<number>): Promise<number[]> {
  const all: number[] = [];
  for (let n = 0; n < count; n++) all.push(await one());
  return all;
}

async function kill(): Promise<number> {
  using folder = new Folder();
  await using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = db.queue("q", { visibilityTimeout: "1h" });
  queue.enqueue(1);
  await using holder = spawnRole("hold", folder.file());
  await holder.read();
  const { promise, resolve } = Promise.withResolvers<number>();
  await using _ = queue.work(() => resolve(instant()));
  await Bun.sleep(Math.random() * 1_000);
  const killedAt = instant();
  holder.kill("SIGKILL");
  return (await promise) - killedAt;
}

function hold(file: string): void {
  open(file)
    .queue("q", { visibilityTimeout: "1h" })
    .work((job) => {
      say(job.id);
      return new Promise(() => {});
    });
}

/** From the start of the handler that takes long to the start of the last one behind it. */
async function stall(): Promise<number> {
  using folder = new Folder();
  await using slow = open(folder.file(), { wake: { safetyInterval: false } });
  await using fast = open(folder.file(), { wake: { safetyInterval: false } });
  slow
    .queue("q")
    .enqueueMany(
      Array.from({ length: QUICK + BEHIND }, (_, n) =>
        n === QUICK - 1 ? "slow" : n < QUICK ? "quick" : "behind",
      ),
    );
  const gate = Promise.withResolvers<void>();
  const isSlow = Promise.withResolvers<void>();
  let since = 0;
  slow.queue<string>("q").work(async (job) => {
    if (job.payload !== "slow") return;
    since = instant();
    isSlow.resolve();
    await gate.promise;
  });
  await isSlow.promise;
  const last = Promise.withResolvers<number>();
  let begun = 0;
  fast.queue<string>("q").work(async () => {
    if (++begun === BEHIND) last.resolve(instant());
  });
  const took = (await last.promise) - since;
  gate.resolve();
  return took;
}
