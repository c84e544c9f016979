import { Queue as BullQueue, Worker } from "bullmq";

import { nameOf } from "../place.ts";
import { type OpenQueue, type Payload, payload, type Queue } from "../queue.ts";

export const bullmq: Queue = {
  name: "BullMQ",
  isShared: true,
  hasHandlers: true,
  async open(place): Promise<OpenQueue | null> {
    if (place.redis === undefined) return null;
    const connection = { url: place.redis.url, maxRetriesPerRequest: null };
    const name = nameOf(place);
    const queue = new BullQueue(name, { connection, defaultJobOptions: { removeOnComplete: true } });
    await queue.waitUntilReady();
    return {
      add: (n) => queue.add("job", payload(n)),
      addMany: (numbers) => queue.addBulk(numbers.map((n) => ({ name: "job", data: payload(n) }))),
      work: (concurrency, handler) => {
        const worker = new Worker<Payload>(name, ({ data }) => handler(data.n), { connection, concurrency });
        return () => worker.close();
      },
      close: () => queue.close(),
    };
  },
};
