// How long does an `enqueue` take beside three processes that write without pause? What SQLite's own busy handler makes
// of it, which sleeps up to 100 ms and lets others pass, is measured beside.
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { say } from "../support/programs/channel.ts";
import { BareQueue, nextTurn, payload, percentile, rounds, scaled, spawnRole, verdict } from "./support.ts";

const DURATION = scaled(3_000, 100);
const OTHERS = 3;

type Enqueue = (job: unknown) => unknown;

const [role, path = ""] = Bun.argv.slice(2);
if (role === undefined) await measure();
else await writeForever(enqueuer(role, path));

async function measure(): Promise<void> {
  const figures = await rounds(
    "one enqueue every 2 ms",
    ["p50 ms", "p99 ms", "max ms", "failed", "others' jobs/s"],
    async () => ({
      "bare beside bare": await latencies("bare", "bare"),
      "honkbun beside bare": await latencies("honkbun", "bare"),
      "honkbun beside honkbun": await latencies("honkbun", "honkbun"),
    }),
  );
  const p99 = figures("honkbun beside honkbun", "p99 ms");
  verdict("p99 ms beside saturated honkbun writers", p99, "at most", 25);
}

async function latencies(kind: string, others: string): Promise<number[]> {
  using folder = new Folder();
  const file = folder.file();
  using db = open(file);
  const jobs = db.sqlite.prepare<{ n: number }, []>("SELECT coalesce(max(id), 0) AS n FROM _honker_live");
  await using stack = new AsyncDisposableStack();
  const writers = Array.from({ length: OTHERS }, () => stack.use(spawnRole(others, file)));
  for (const writer of writers) await writer.read();

  const enqueue = enqueuer(kind, file);
  const found: number[] = [];
  let failed = 0;
  const jobsBefore = jobs.get()?.n ?? 0;
  const start = performance.now();
  while (performance.now() < start + DURATION) {
    const before = performance.now();
    try {
      enqueue(payload(found.length));
    } catch {
      failed++;
    }
    found.push(performance.now() - before);
    await Bun.sleep(2);
  }
  const seconds = (performance.now() - start) / 1_000;
  const byOthers = (jobs.get()?.n ?? 0) - jobsBefore - (found.length - failed);
  jobs.finalize();
  return [...[0.5, 0.99, 1].map((share) => percentile(found, share)), failed, byOthers / seconds];
}

function enqueuer(kind: string, file: string): Enqueue {
  if (kind === "bare") {
    const queue = new BareQueue(file);
    return (job) => queue.enqueue(job);
  }
  const queue = open(file).queue("emails");
  return (job) => queue.enqueue(job);
}

/** Until it is killed. */
async function writeForever(enqueue: Enqueue): Promise<void> {
  say("ready");
  for (let n = 0; ; n++) {
    try {
      enqueue(payload(n));
    } catch {
      // A writer that got no turn within its busy timeout tries again.
    }
    if (n % 100 === 0) await nextTurn();
  }
}
