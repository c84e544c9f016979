import { join } from "node:path";

import { open } from "honkbun";

import { type OpenPeer, payload, type Peer } from "../peer.ts";

export const honkbun: Peer = {
  name: "honkbun, synchronous normal",
  isDurable: true,
  open({ folder }): OpenPeer {
    const db = open(join(folder, "honkbun.db"));
    const queue = db.queue<ReturnType<typeof payload>>("q");
    return {
      add: (n) => queue.enqueue(payload(n)),
      addConcurrently: (n) => queue.enqueueAsync(payload(n)),
      addMany: (numbers) => queue.enqueueMany(numbers.map(payload)),
      work: (concurrency, ran) => {
        const worker = queue.work(async () => ran(), { concurrency });
        return () => worker.stop();
      },
      close: () => db.close(),
    };
  },
};
