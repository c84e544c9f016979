// What do 50,000 jobs at once cost, by `enqueueMany`, beside a loop of a bare prepared INSERT in one transaction?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareQueue, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const JOBS = scaled(50_000, 500);

/** Microseconds per job. */
function time(enqueue: () => unknown): number {
  const start = performance.now();
  enqueue();
  return ((performance.now() - start) * 1_000) / JOBS;
}

const payloads = Array.from({ length: JOBS }, (_, n) => payload(n));

const figures = await rounds(`${JOBS} jobs at once`, ["µs", "ratio"], async () => {
  using folder = new Folder();
  using db = open(folder.file("honkbun.db"));
  open(folder.file("bare.db")).close();
  using bare = new BareQueue(folder.file("bare.db"), { checkpoints: false });
  const loop = time(() =>
    bare.transaction(() => {
      for (const job of payloads) bare.enqueue(job);
    }),
  );
  await nextTurn();
  const shared = time(() => db.queue("emails").enqueueMany(payloads));
  await nextTurn();
  const own = time(() => db.queue("later").enqueueMany(payloads, (_, n) => ({ delay: n, priority: n % 10 })));
  return {
    "a loop of a bare INSERT": [loop, 1],
    enqueueMany: [shared, loop / shared],
    "with options for each": [own, loop / own],
  };
});
verdict("rate of enqueueMany / rate of the loop", figures("enqueueMany", "ratio"), "at least", 2);
