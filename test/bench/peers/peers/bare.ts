import { join } from "node:path";

import { open } from "honkbun";

import { BareQueue, BareWorker, nextTurn } from "../../support.ts";
import { type OpenPeer, payload, type Peer } from "../peer.ts";

/** Jobs that one claim takes. */
const BATCH = 100;

/** Hand-written SQL on the file, the tables and the indexes of honkbun: what its calls have to do at least. */
export const bare: Peer = {
  name: "bun:sqlite, hand-written SQL",
  isDurable: true,
  open({ folder }): OpenPeer {
    const path = join(folder, "bare.db");
    const db = open(path);
    db.close();
    const queue = new BareQueue(path);
    return {
      add: (n) => queue.enqueue(payload(n)),
      addMany: (numbers) => {
        for (const n of numbers) queue.enqueue(payload(n));
      },
      work: (_, ran) => {
        const worker = new BareWorker(path, BATCH);
        let isOver = false;
        const loop = async (): Promise<void> => {
          while (!isOver) {
            for (let left = worker.run(); left > 0; left--) ran();
            await nextTurn();
          }
          worker[Symbol.dispose]();
        };
        const over = loop();
        return () => {
          isOver = true;
          return over;
        };
      },
      close: () => queue[Symbol.dispose](),
    };
  },
};
