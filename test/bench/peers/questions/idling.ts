import { join } from "node:path";

import { open } from "honkbun";

import { scaled } from "../../support.ts";
import { queueNames, withQueue } from "../queues.ts";
import type { Topic } from "../topic.ts";

const DURATION = scaled(10_000, 200);
/** Until what starting has left is collected. */
const START = scaled(12_000, 100);

/** Of a process that waits for a job, and in honkbun's for a notification as well; without what a server uses for it. */
export const idling: Topic = {
  title: "an idle worker",
  unit: "milliseconds of CPU in 10 seconds",
  isLess: true,
  subjects: { ...queueNames(({ hasHandlers }) => hasHandlers), nothing: "a Bun process that waits" },
  questions: {
    cpu: {
      columns: ["CPU"],
      rounds: 1,
      measure: async (subject, place) => {
        if (subject === "nothing") return [await cpuTime()];
        if (subject === "honkbun") open(join(place.folder, "honkbun.db")).listen("channel", () => {});
        return withQueue(subject, place, async (queue) => {
          const stop = queue.work(1, async () => {});
          const figure = await cpuTime();
          await stop();
          return [figure];
        });
      },
    },
  },
};

/** Milliseconds of CPU that this process uses while it waits. */
async function cpuTime(): Promise<number> {
  await Bun.sleep(START);
  const before = process.cpuUsage();
  await Bun.sleep(DURATION);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
