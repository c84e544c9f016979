import type { Place } from "./place.ts";
import type { OpenQueue, Queue } from "./queue.ts";
import { bare } from "./queues/bare.ts";
import { bullmq } from "./queues/bullmq.ts";
import { bunqueue, bunqueueBuffered } from "./queues/bunqueue.ts";
import { honkbun } from "./queues/honkbun.ts";
import { pgBoss } from "./queues/pg-boss.ts";
import { plainjob } from "./queues/plainjob.ts";

/** In the order of the table. */
export const QUEUES: Readonly<Record<string, Queue>> = {
  honkbun,
  bare,
  plainjob,
  bunqueue,
  bunqueueBuffered,
  bullmq,
  pgBoss,
};

/** Their names, as far as `isAsked` says so. */
export function queueNames(isAsked: (queue: Queue) => boolean = () => true): Record<string, string> {
  return Object.fromEntries(
    Object.entries(QUEUES)
      .filter(([, queue]) => isAsked(queue))
      .map(([key, { name }]) => [key, name]),
  );
}

/** Opens a queue for a measurement, and closes it after. Null where it cannot be had. */
export async function withQueue<T>(
  subject: string,
  place: Place,
  use: (queue: OpenQueue) => Promise<T>,
): Promise<T | null> {
  const queue = await QUEUES[subject]?.open(place);
  if (queue == null) return null;
  const result = await use(queue);
  await queue.close();
  return result;
}
