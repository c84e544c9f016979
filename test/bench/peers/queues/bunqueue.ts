import { join } from "node:path";

import { Queue as BunQueue, shutdownManager, Worker } from "bunqueue/client";

import { type OpenQueue, type Payload, payload, type Queue } from "../queue.ts";

function openBunqueue(folder: string, durable: boolean): OpenQueue {
  const options = { embedded: true, dataPath: join(folder, "bunqueue.db") };
  const queue = new BunQueue<Payload>("q", options);
  return {
    add: (n) => queue.add("job", payload(n), { durable, removeOnComplete: true }),
    addMany: (numbers) =>
      queue.addBulk(
        numbers.map((n) => ({ name: "job", data: payload(n), opts: { durable, removeOnComplete: true } })),
      ),
    work: (concurrency, handler) => {
      const worker = new Worker<Payload>("q", ({ data }) => handler(data.n), { ...options, concurrency });
      return () => worker.close();
    },
    close: () => shutdownManager(),
  };
}

/** Embedded, as it is without a server: the queue is this process's alone. */
export const bunqueue: Queue = {
  name: "bunqueue, durable",
  isShared: false,
  hasHandlers: true,
  open: ({ folder }) => openBunqueue(folder, true),
};

/** What is added is written some milliseconds later: a crash loses it. */
export const bunqueueBuffered: Queue = {
  name: "bunqueue, buffered",
  isShared: false,
  hasHandlers: true,
  open: ({ folder }) => openBunqueue(folder, false),
};
