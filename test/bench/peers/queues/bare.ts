import { existsSync } from "node:fs";
import { join } from "node:path";

import { open } from "honkbun";

import { BareQueue, BareWorker, nextTurn } from "../../support.ts";
import { type OpenQueue, payload, type Queue } from "../queue.ts";

/** Jobs that one claim takes. */
const BATCH = 100;

/** Hand-written SQL on the file, the tables and the indexes of honkbun: what its calls have to do at least. */
export const bare: Queue = {
  name: "hand-written SQL",
  isShared: true,
  hasHandlers: false,
  async open({ folder }): Promise<OpenQueue> {
    const path = join(folder, "bare.db");
    if (!existsSync(path)) await open(path).close();
    const queue = new BareQueue(path);
    return {
      add: (n) => queue.enqueue(payload(n)),
      addMany: (numbers) =>
        queue.transaction(() => {
          for (const n of numbers) queue.enqueue(payload(n));
        }),
      work: (_, handler) => {
        const worker = new BareWorker(path, BATCH);
        let isOver = false;
        const loop = async (): Promise<void> => {
          while (!isOver) {
            for (let left = worker.run(); left > 0; left--) void handler(0);
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
