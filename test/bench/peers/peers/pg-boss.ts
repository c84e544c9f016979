import { PgBoss } from "pg-boss";

import { type OpenPeer, payload, type Peer } from "../peer.ts";

export const pgBoss: Peer = {
  name: "pg-boss, PostgreSQL",
  isDurable: true,
  async open({ postgres }): Promise<OpenPeer | null> {
    if (postgres === undefined) return null;
    const boss = new PgBoss({ connectionString: postgres, schema: `bench_${process.pid}` });
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
      work: (concurrency, ran) => {
        // It polls, and fetches a batch each time: so many as honkbun claims ahead, or as run at once.
        const batchSize = Math.max(concurrency, 100);
        const working = boss.work("q", { batchSize, pollingIntervalSeconds: 0.5 }, async (jobs) => {
          for (const _ of jobs) ran();
        });
        return async () => {
          await working;
          await boss.offWork("q");
        };
      },
      close: () => boss.stop({ graceful: false }),
    };
  },
};
