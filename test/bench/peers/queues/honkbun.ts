import { join } from "node:path";

import { open } from "honkbun";

import { type OpenQueue, type Payload, payload, type Queue } from "../queue.ts";

export const honkbun: Queue = {
  name: "honkbun",
  isShared: true,
  hasHandlers: true,
  open({ folder }): OpenQueue {
    const db = open(join(folder, "honkbun.db"));
    const queue = db.queue<Payload>("q");
    return {
      add: (n) => queue.enqueue(payload(n)),
      addConcurrently: (n) => queue.enqueueAsync(payload(n)),
      addMany: (numbers) => queue.enqueueMany(numbers.map(payload)),
      work: (concurrency, handler) => {
        const worker = queue.work((job) => handler(job.payload.n), { concurrency });
        return () => worker.stop();
      },
      close: () => db.close(),
    };
  },
};
