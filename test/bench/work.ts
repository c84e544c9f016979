// What does `work` cost per job, with a handler that does nothing? Beside a bare loop that claims a hundred jobs and deletes
// them, and, for a worker that claims nothing ahead, one that deletes the last job and claims the next in one transaction.
import { open, type WorkOptions } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareWorker, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const JOBS = scaled(50_000, 1_000);
const JOBS_ONE_BY_ONE = scaled(10_000, 200);
const BATCH = 100;
/** Handlers at once, and the rate that is asked for, as a share of the bare loop's. */
const TARGETS = { 1: 0.5, 10: 0.6, 100: 0.85 };
const ONE_BY_ONE = "concurrency 1, prefetch 0";

const figures = await rounds(`${JOBS} jobs`, ["µs per job", "ratio"], async () => {
  const bareTime = bare(JOBS, BATCH, (worker) => worker.run());
  await nextTurn();
  const found: Record<string, number[]> = { "bare loop": [bareTime, 1] };
  for (const concurrency of Object.keys(TARGETS)) {
    const time = await work(JOBS, { concurrency: Number(concurrency) });
    found[`concurrency ${concurrency}`] = [time, bareTime / time];
  }
  const oneByOne = bare(JOBS_ONE_BY_ONE, 1, (worker) => worker.turn());
  await nextTurn();
  const time = await work(JOBS_ONE_BY_ONE, { prefetch: 0 });
  return { ...found, "bare loop, one by one": [oneByOne, 1], [ONE_BY_ONE]: [time, oneByOne / time] };
});
for (const [concurrency, target] of Object.entries(TARGETS)) {
  const subject = `concurrency ${concurrency}`;
  verdict(`${subject}, rate / rate of the bare loop`, figures(subject, "ratio"), "at least", target);
}
verdict(
  `${ONE_BY_ONE}, rate / rate of the bare loop one by one`,
  figures(ONE_BY_ONE, "ratio"),
  "at least",
  0.8,
);

function payloads(count: number): unknown[] {
  return Array.from({ length: count }, (_, n) => payload(n));
}

/** Microseconds per job. */
function bare(jobs: number, batch: number, run: (worker: BareWorker) => number): number {
  using folder = new Folder();
  using filler = open(folder.file());
  filler.queue("emails").enqueueMany(payloads(jobs));
  using worker = new BareWorker(folder.file(), batch);
  const start = performance.now();
  while (run(worker) > 0);
  return ((performance.now() - start) * 1_000) / jobs;
}

async function work(jobs: number, options: WorkOptions): Promise<number> {
  using folder = new Folder();
  await using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = db.queue("emails");
  queue.enqueueMany(payloads(jobs));
  await nextTurn();
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = jobs;
  const start = performance.now();
  queue.work(async () => {
    if (--left === 0) resolve();
  }, options);
  await promise;
  return ((performance.now() - start) * 1_000) / jobs;
}
