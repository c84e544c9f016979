import { PgBoss } from "pg-boss";

import { nameOf } from "../place.ts";
import { type OpenQueue, type Payload, payload, type Queue } from "../queue.ts";

export const pgBoss: Queue = {
  name: "pg-boss",
  isShared: true,
  hasHandlers: true,
  async open(place): Promise<OpenQueue | null> {
    if (place.postgres === undefined) return null;
    const boss = new PgBoss({ connectionString: place.postgres.url, schema: nameOf(place) });
    boss.on("error", console.error);
    await boss.start();
    await boss.createQueue("q");
    return {
      add: (n) => boss.send("q", payload(n)),
      addMany: (numbers) =>
        boss.insert(
          "q",
          numbers.map((n) => ({ data: payload(n) })),
        ),
      work: (concurrency, handler) => {
        // It polls, and fetches a batch each time: so many as honkbun claims ahead, or as run at once.
        const batchSize = Math.max(concurrency, 100);
        const working = boss.work<Payload>("q", { batchSize, pollingIntervalSeconds: 0.5 }, (jobs) =>
          Promise.all(jobs.map(({ data }) => handler(data.n))),
        );
        return async () => {
          await working;
          await boss.offWork("q");
        };
      },
      close: () => boss.stop({ graceful: false }),
    };
  },
};
