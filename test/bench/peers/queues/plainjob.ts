import { Database } from "bun:sqlite";
import { join } from "node:path";

import { bun, defineQueue, defineWorker } from "plainjob";

import { type OpenQueue, payload, type Queue } from "../queue.ts";

const logger = { error: console.error, warn: console.warn, info: () => {}, debug: () => {} };

export const plainjob: Queue = {
  name: "plainjob, polling every 10 ms",
  isShared: true,
  hasHandlers: true,
  open({ folder }): OpenQueue {
    const connection = bun(new Database(join(folder, "plainjob.db"), { strict: true }));
    const queue = defineQueue({ connection, logger });
    return {
      add: (n) => queue.add("q", payload(n)),
      addMany: (numbers) => queue.addMany("q", numbers.map(payload)),
      work: (concurrency, handler) => {
        // A worker runs one job after the other: so many at once are so many workers.
        const workers = Array.from({ length: concurrency }, () =>
          defineWorker("q", (job) => handler(JSON.parse(job.data).n), { queue, logger, pollIntervall: 10 }),
        );
        for (const worker of workers) void worker.start();
        return () => Promise.all(workers.map((worker) => worker.stop()));
      },
      close: () => queue.close(),
    };
  },
};
