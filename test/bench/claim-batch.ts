// What do `claimBatch(100)` and `ackBatch` cost, beside bare SQL that does the same in two transactions?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareWorker, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const BATCH = 100;
const BATCHES = scaled(30, 2);
const SLICES = scaled(10, 2);

const figures = await rounds(`batches of ${BATCH}`, ["µs per job", "ratio"], async () => {
  using folder = new Folder();
  using db = open(folder.file("honkbun.db"));
  using filler = open(folder.file("bare.db"));
  using bare = new BareWorker(folder.file("bare.db"), BATCH);
  const queue = db.queue("emails");
  const payloads = Array.from({ length: BATCH * BATCHES }, (_, n) => payload(n));
  let [bareTime, honkbunTime] = [0, 0];
  for (let slice = 0; slice < SLICES; slice++) {
    filler.queue("emails").enqueueMany(payloads);
    queue.enqueueMany(payloads);
    await nextTurn();
    bareTime += time(() => bare.run());
    await nextTurn();
    honkbunTime += time(() => queue.ackBatch(queue.claimBatch(BATCH)));
    await nextTurn();
  }
  return { "bare SQL": [bareTime, 1], "claimBatch, ackBatch": [honkbunTime, bareTime / honkbunTime] };
});
verdict("rate of honkbun / rate of bare SQL", figures("claimBatch, ackBatch", "ratio"), "at least", 0.8);

/** Microseconds per job, as a share of all slices. */
function time(batch: () => number): number {
  const start = performance.now();
  for (let n = 0; n < BATCHES; n++) {
    if (batch() !== BATCH) throw new Error("not all jobs of a batch were run");
  }
  return ((performance.now() - start) * 1_000) / (BATCH * BATCHES) / SLICES;
}
