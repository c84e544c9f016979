// One to eight processes that all work on one queue without pause: how much do they get done together, does any of them starve, how
// long are their event loops held, and how long does an `enqueue` of yet another process take? Their handlers do nothing, or each
// enqueues a job and waits for its commit. Time for which a process was ready to run, and had no core, is left out of what its event
// loop was held for: that is the machine's.
import { readFileSync } from "node:fs";

import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { answer, say } from "../support/programs/channel.ts";
import { payload, percentile, rounds, scaled, spawnRole, verdict } from "./support.ts";

const DURATION = scaled(2_000, 100);
const WARM_UP = scaled(2_500, 100);
const PROCESSES = [1, 2, 4, 8];
const MOST = Math.max(...PROCESSES);
const CONCURRENCY = 10;
/** What handlers do, and how many jobs there are for that: enough to last until the end, however small the scale. */
const WORK = { run: scaled(900_000, 100_000), "run and enqueue": 2_000 };
/** Milliseconds between two calls of the process beside the others. */
const GAP = 5;

interface Report {
  readonly jobs: number;
  /** Milliseconds for which the event loop was held at once, at most. */
  readonly held: number;
}

const [role, path = ""] = Bun.argv.slice(2);
if (role === undefined) await measure();
else if (role in WORK) await work(path, role === "run and enqueue");
else await probe(path);

async function measure(): Promise<void> {
  const headings = [
    "jobs/s",
    "of one process",
    "slowest of mean",
    "loop held ms",
    "enqueue p50 ms",
    "p99 ms",
  ];
  const figures = await rounds("processes that contend", headings, async () => {
    const found: Record<string, number[]> = {};
    for (const [kind, jobs] of Object.entries(WORK)) {
      let alone = Number.NaN;
      for (const count of PROCESSES) {
        const { rates, held, latencies } = await contend(kind, jobs, count);
        const total = rates.reduce((sum, rate) => sum + rate, 0);
        if (count === 1) alone = total;
        const fairness = Math.min(...rates) / (total / count);
        const waits = [0.5, 0.99].map((share) => percentile(latencies, share));
        found[`${kind}, ${count}`] = [total, total / alone, fairness, held, ...waits];
      }
    }
    return found;
  });
  for (const kind of Object.keys(WORK)) {
    const most = `${kind}, ${MOST}`;
    if (kind === "run")
      verdict(`${most} processes, throughput / one's`, figures(most, "of one process"), "at least", 0.65);
    verdict(`${most} processes, slowest / mean`, figures(most, "slowest of mean"), "at least", 0.5);
    verdict(`${most} processes, event loop held ms`, figures(most, "loop held ms"), "at most", 20);
    verdict(`${most} processes, enqueue beside them, p99 ms`, figures(most, "p99 ms"), "at most", 25);
  }
}

async function contend(
  kind: string,
  jobs: number,
  count: number,
): Promise<{ rates: number[]; held: number; latencies: number[] }> {
  using folder = new Folder();
  await using db = open(folder.file());
  for (let n = 0; n < jobs; n += 50_000) {
    db.queue("q").enqueueMany(Array.from({ length: Math.min(50_000, jobs - n) }, (_, i) => payload(n + i)));
  }
  await using stack = new AsyncDisposableStack();
  const workers = Array.from({ length: count }, () => stack.use(spawnRole(kind, folder.file())));
  for (const worker of workers) await worker.read();
  await Promise.all(workers.map((worker) => worker.ask("start")));
  await Bun.sleep(WARM_UP);
  const beside = stack.use(spawnRole("probe", folder.file()));
  await beside.read();
  const [latencies, ...reports] = await Promise.all([
    beside.ask<number[]>("measure"),
    ...workers.map((worker) => worker.ask<Report>("measure")),
  ]);
  return {
    rates: reports.map(({ jobs }) => jobs / (DURATION / 1_000)),
    held: Math.max(...reports.map(({ held }) => held)),
    latencies,
  };
}

async function work(file: string, enqueues: boolean): Promise<void> {
  const queue = open(file).queue("q");
  let jobs = 0;
  say("ready");
  await answer(async (message: "start" | "measure") => {
    if (message === "start") {
      const handler = async ({ payload: job }: { readonly payload: unknown }): Promise<void> => {
        jobs++;
        if (enqueues) await queue.enqueueAsync(job);
      };
      queue.work(handler, { concurrency: CONCURRENCY });
      return null;
    }
    const before = jobs;
    const held = await longestTurn();
    return { jobs: jobs - before, held } satisfies Report;
  });
}

/** Milliseconds between two turns of the event loop, at most, without those for which this thread had no core. */
async function longestTurn(): Promise<number> {
  let longest = 0;
  let [last, waited] = [performance.now(), waitedForCore()];
  for (const end = last + DURATION; last < end;) {
    await Bun.sleep(1);
    const [now, all] = [performance.now(), waitedForCore()];
    longest = Math.max(longest, now - last - 1 - (all - waited));
    [last, waited] = [now, all];
  }
  return longest;
}

/** Milliseconds for which this thread, the first of the process, was ready to run and did not. */
function waitedForCore(): number {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;
}

async function probe(file: string): Promise<void> {
  const queue = open(file).queue("other");
  say("ready");
  await answer(async () => {
    const latencies: number[] = [];
    for (const end = performance.now() + DURATION; performance.now() < end;) {
      const before = performance.now();
      queue.enqueue(payload(1));
      latencies.push(performance.now() - before);
      await Bun.sleep(GAP);
    }
    return latencies;
  });
}
