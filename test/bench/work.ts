// What does `work` cost per job, with a handler that does nothing, beside a bare loop that claims a hundred jobs and deletes them?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareWorker, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const JOBS = scaled(50_000, 1_000);
const BATCH = 100;
/** Handlers at once, and the rate that is asked for, as a share of the bare loop's. */
const TARGETS = { 1: 0.08, 10: 0.3, 100: 0.6 };

const payloads = Array.from({ length: JOBS }, (_, n) => payload(n));

const figures = await rounds(`${JOBS} jobs`, ["µs per job", "ratio"], async () => {
  const bareTime = bare();
  await nextTurn();
  const found: Record<string, number[]> = { "bare loop": [bareTime, 1] };
  for (const concurrency of Object.keys(TARGETS)) {
    const time = await work(Number(concurrency));
    found[`concurrency ${concurrency}`] = [time, bareTime / time];
  }
  return found;
});
for (const [concurrency, target] of Object.entries(TARGETS)) {
  const subject = `concurrency ${concurrency}`;
  verdict(`${subject}, rate / rate of the bare loop`, figures(subject, "ratio"), "at least", target);
}

/** Microseconds per job. */
function bare(): number {
  using folder = new Folder();
  using filler = open(folder.file());
  filler.queue("emails").enqueueMany(payloads);
  using worker = new BareWorker(folder.file(), BATCH);
  const start = performance.now();
  for (let left = JOBS; left > 0; left -= BATCH) worker.run();
  return ((performance.now() - start) * 1_000) / JOBS;
}

async function work(concurrency: number): Promise<number> {
  using folder = new Folder();
  await using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = db.queue("emails");
  queue.enqueueMany(payloads);
  await nextTurn();
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = JOBS;
  const start = performance.now();
  queue.work(
    async () => {
      if (--left === 0) resolve();
    },
    { concurrency },
  );
  await promise;
  return ((performance.now() - start) * 1_000) / JOBS;
}
