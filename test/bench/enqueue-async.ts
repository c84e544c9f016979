// What does `enqueueAsync` cost with 1,000 calls in flight, beside a bare prepared INSERT that commits each job by itself?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareQueue, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const IN_FLIGHT = scaled(1_000, 100);
const SLICES = scaled(20, 2);

const figures = await rounds(`${IN_FLIGHT} in flight`, ["µs", "ratio"], async () => {
  using folder = new Folder();
  using db = open(folder.file("honkbun.db"));
  open(folder.file("bare.db")).close();
  using bare = new BareQueue(folder.file("bare.db"));
  const queue = db.queue("emails");
  let [one, shared] = [0, 0];
  for (let n = 0; n < SLICES; n++) {
    one += await time(() => {
      for (let job = 0; job < IN_FLIGHT; job++) bare.enqueue(payload(job));
    });
    shared += await time(() =>
      Promise.all(Array.from({ length: IN_FLIGHT }, (_, job) => queue.enqueueAsync(payload(job)))),
    );
  }
  return { "one by one, bare": [one, 1], enqueueAsync: [shared, one / shared] };
});
verdict("rate of enqueueAsync / rate of one by one", figures("enqueueAsync", "ratio"), "at least", 5);

/** Microseconds per job, as a share of all slices. */
async function time(enqueue: () => unknown): Promise<number> {
  const start = performance.now();
  await enqueue();
  await nextTurn();
  return ((performance.now() - start) * 1_000) / IN_FLIGHT / SLICES;
}
