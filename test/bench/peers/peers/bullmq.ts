import { Queue, Worker } from "bullmq";

import { type OpenPeer, payload, type Peer } from "../peer.ts";

export const bullmq: Peer = {
  name: "BullMQ, Redis with appendfsync everysec",
  isDurable: true,
  async open({ redis }): Promise<OpenPeer | null> {
    if (redis === undefined) return null;
    const connection = { host: "127.0.0.1", port: redis, maxRetriesPerRequest: null };
    const queue = new Queue("q", { connection, defaultJobOptions: { removeOnComplete: true } });
    await queue.waitUntilReady();
    await queue.obliterate({ force: true });
    return {
      add: (n) => queue.add("job", payload(n)),
      addMany: (numbers) => queue.addBulk(numbers.map((n) => ({ name: "job", data: payload(n) }))),
      work: (concurrency, ran) => {
        const worker = new Worker("q", async () => ran(), { connection, concurrency });
        return () => worker.close();
      },
      close: () => queue.close(),
    };
  },
};
