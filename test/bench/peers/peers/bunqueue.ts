import { join } from "node:path";

import { Queue, shutdownManager, Worker } from "bunqueue/client";

import { type OpenPeer, payload, type Peer } from "../peer.ts";

function openBunqueue(folder: string, durable: boolean): OpenPeer {
  const options = { embedded: true, dataPath: join(folder, "bunqueue.db") };
  const queue = new Queue("q", options);
  return {
    add: (n) => queue.add("job", payload(n), { durable, removeOnComplete: true }),
    addMany: (numbers) =>
      queue.addBulk(
        numbers.map((n) => ({ name: "job", data: payload(n), opts: { durable, removeOnComplete: true } })),
      ),
    work: (concurrency, ran) => {
      const worker = new Worker("q", async () => ran(), { ...options, concurrency });
      return () => worker.close();
    },
    close: () => shutdownManager(),
  };
}

export const bunqueue: Peer = {
  name: "bunqueue, durable",
  isDurable: true,
  open: ({ folder }) => openBunqueue(folder, true),
};

/** What is added is written some milliseconds later: a crash loses it. */
export const bunqueueBuffered: Peer = {
  name: "bunqueue, buffered (a crash loses jobs)",
  isDurable: false,
  open: ({ folder }) => openBunqueue(folder, false),
};
