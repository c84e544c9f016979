// What does `enqueue` cost, one job per transaction, beside a bare prepared INSERT into the same table?
import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { BareQueue, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const SLICE = scaled(500, 100);
const SLICES = scaled(40, 2);

/** Microseconds per job for a slice of them, with what the library puts off to the end of the tick. */
async function time(enqueue: (payload: unknown) => unknown): Promise<number> {
  const start = performance.now();
  for (let n = 0; n < SLICE; n++) enqueue(payload(n));
  await nextTurn();
  return ((performance.now() - start) * 1_000) / SLICE;
}

/** The path of a file with honkbun's tables and indexes. */
function prepared(file: string): string {
  open(file).close();
  return file;
}

const figures = await rounds(
  "one job, one transaction",
  ["bare µs", "INSERT alone µs", "honkbun µs", "ratio to bare", "to INSERT alone"],
  async () => {
    using folder = new Folder();
    using bare = new BareQueue(prepared(folder.file("bare.db")));
    // Tells the library's own cost: honkbun checkpoints in a thread, SQLite by itself within a commit.
    using alone = new BareQueue(prepared(folder.file("alone.db")), { checkpoints: false });
    using db = open(folder.file("honkbun.db"));
    const queue = db.queue("emails");
    let [bareTime, aloneTime, honkbunTime] = [0, 0, 0];
    for (let n = 0; n < SLICES; n++) {
      // Small slices in turns: what else the machine does hits all of them.
      bareTime += (await time((job) => bare.enqueue(job))) / SLICES;
      aloneTime += (await time((job) => alone.enqueue(job))) / SLICES;
      alone.checkpoint();
      honkbunTime += (await time((job) => queue.enqueue(job))) / SLICES;
    }
    const ratios = [bareTime / honkbunTime, aloneTime / honkbunTime];
    return { enqueue: [bareTime, aloneTime, honkbunTime, ...ratios] };
  },
);
verdict("rate of honkbun / rate of bun:sqlite", figures("enqueue", "ratio to bare"), "at least", 0.93);
