// What does it take to count the jobs of a queue, per job, and to count them again while nothing has changed?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { payload, rounds, scaled, verdict } from "./support.ts";

const JOBS = scaled(1_000_000, 1_000);
const AGAIN = 1_000;

const figures = await rounds(`counts of ${JOBS} jobs`, ["µs per job", "again, µs"], async () => {
  using folder = new Folder();
  using db = open(folder.file());
  const queue = db.queue("emails");
  for (let from = 0; from < JOBS; from += 50_000) {
    const payloads = Array.from({ length: Math.min(50_000, JOBS - from) }, (_, n) => payload(n));
    queue.enqueueMany(payloads, (_, n) => ({ priority: n % 3, delay: n % 2 === 0 ? 0 : "1h" }));
  }
  queue.claimBatch(scaled(50_000, 100));
  const first = time(() => queue.counts());
  const again = time(() => {
    for (let n = 0; n < AGAIN; n++) queue.counts();
  });
  return { counts: [first / JOBS, again / AGAIN] };
});
verdict("microseconds per job", figures("counts", "µs per job"), "at most", 0.1);

/** Microseconds. */
function time(call: () => unknown): number {
  const start = performance.now();
  call();
  return (performance.now() - start) * 1_000;
}
