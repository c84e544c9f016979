import { within } from "../../../support/eventually.ts";
import { answer, say } from "../../../support/programs/channel.ts";
import { instant, percentile, scaled } from "../../support.ts";
import { type Place, spawnHelper } from "../place.ts";
import { queueNames, QUEUES, withQueue } from "../queues.ts";
import type { Topic } from "../topic.ts";

const SENDS = scaled(200, 5);
/** What polls takes long: then fewer are sent. */
const FOR = scaled(15_000, 500);
/** Milliseconds between a handler's call and the next job, at most. */
const PAUSE = 20;
/** Jobs before those that count. */
const WARM_UP = scaled(20, 2);

/** From before the call that adds a job to the call of its handler, while the worker has nothing else to do. */
export const latency: Topic = {
  title: "from enqueue to handler, idle worker",
  unit: "milliseconds",
  isLess: true,
  subjects: queueNames(({ hasHandlers }) => hasHandlers),
  questions: {
    here: {
      columns: ["one process, p50", "p99"],
      measure: (subject, place) =>
        latencies(subject, place, async (add, ran) => {
          const sent = instant();
          await add();
          return (await ran) - sent;
        }),
    },
    elsewhere: {
      columns: ["two processes, p50", "p99"],
      measure: async (subject, place) => {
        if (!QUEUES[subject]?.isShared) return null;
        await using producer = spawnHelper("producer");
        return await latencies(
          subject,
          place,
          async (_, ran) => {
            const [sent, called] = await Promise.all([producer.ask<number>("add"), ran]);
            return called - sent;
          },
          () => producer.read(),
        );
      },
      helpers: { producer: produce },
    },
  },
};

async function latencies(
  subject: string,
  place: Place,
  one: (add: () => unknown, ran: Promise<number>) => Promise<number>,
  isReady: () => Promise<unknown> = async () => {},
): Promise<number[] | null> {
  return withQueue(subject, place, async (queue) => {
    let called = Promise.withResolvers<number>();
    const stop = queue.work(1, async () => called.resolve(instant()));
    await isReady();
    const found: number[] = [];
    const end = performance.now() + FOR;
    for (let n = 0; n < WARM_UP + SENDS && performance.now() < end; n++) {
      called = Promise.withResolvers();
      const took = await one(() => queue.add(n), within(called.promise, "a handler is called"));
      if (n >= WARM_UP) found.push(took);
      await Bun.sleep(PAUSE * (0.25 + 0.75 * Math.random()));
    }
    await stop();
    return [percentile(found, 0.5), percentile(found, 0.99)];
  });
}

async function produce(subject: string, place: Place): Promise<void> {
  await withQueue(subject, place, async (queue) => {
    say("ready");
    await answer(async () => {
      const sent = instant();
      await queue.add(1);
      return sent;
    });
  });
}
