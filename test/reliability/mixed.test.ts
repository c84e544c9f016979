import { test } from "bun:test";

import { MixedLoad } from "../support/mixed-load.ts";

/** RELIABILITY_KILLS=1000 makes it long. */
const KILLS = Number(Bun.env.RELIABILITY_KILLS ?? 25);
/** So many processes contend, until each has done everything so often. RELIABILITY_CONTENTION=100 makes it long. */
const CONTENDING = 16;
const LEAST = Number(Bun.env.RELIABILITY_CONTENTION ?? 5);
const DEADLINE = 120_000 + LEAST * 10_000;

test(
  "processes that do everything at once lose nothing, and do nothing twice, though one after the other is killed",
  async () => {
    await using load = new MixedLoad(4);
    for (let kills = 0; kills < KILLS; kills++) {
      await Bun.sleep(100 + 300 * Math.random());
      await load.replaceOne();
    }
    await load.finish();
    load.audit();
  },
  120_000 + KILLS * 2_000,
);

test(
  "sixteen processes that do everything at once update nothing over each other, are told of no lock, and none starves",
  async () => {
    await using load = new MixedLoad(CONTENDING);
    const end = performance.now() + DEADLINE;
    for (;;) {
      const counts = await load.counts();
      if (counts.every((done) => Object.values(done).every((count) => count >= LEAST))) break;
      if (performance.now() > end) throw new Error(`one starves: ${JSON.stringify(counts)}`);
      await Bun.sleep(100);
    }
    await load.finish();
    load.audit();
  },
  120_000 + 2 * DEADLINE,
);
