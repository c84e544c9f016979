import { expect, test } from "bun:test";

import { MixedLoad } from "../support/mixed-load.ts";

/** RELIABILITY_KILLS=1000 makes it long. */
const KILLS = Number(Bun.env.RELIABILITY_KILLS ?? 25);
/** For so many processes, and so many milliseconds, nobody is killed. */
const CONTENDING = 16;
const DURATION = Number(Bun.env.RELIABILITY_CONTENTION ?? 5_000);

test(
  "processes that do everything at once lose nothing, and do nothing twice, though one after the other is killed",
  async () => {
    await using load = new MixedLoad(4);
    for (let kills = 0; kills < KILLS; kills++) {
      await Bun.sleep(100 + 300 * Math.random());
      await load.replaceOne();
    }
    await load.finish();
    load.audit(KILLS);
  },
  120_000 + KILLS * 2_000,
);

test(
  "sixteen processes that do everything at once update nothing over each other, are told of no lock, and none starves",
  async () => {
    await using load = new MixedLoad(CONTENDING);
    await load.count();
    await Bun.sleep(DURATION);
    const done = await load.finish();
    load.audit(CONTENDING);
    for (const what of ["jobs", "enqueued", "published", "locks"] as const) {
      const counts = done.map((one) => one[what]);
      const mean = counts.reduce((sum, count) => sum + count, 0) / CONTENDING;
      const starved = counts.filter((count) => count < mean / 5);
      expect([what, mean, starved]).toEqual([what, mean, []]);
    }
  },
  180_000 + DURATION * 2,
);
