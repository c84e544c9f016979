import { answer, say } from "../../../support/programs/channel.ts";
import { scaled } from "../../support.ts";
import { type Place, spawnHelper } from "../place.ts";
import type { OpenQueue } from "../queue.ts";
import { queueNames, QUEUES, withQueue } from "../queues.ts";
import type { Question, Topic } from "../topic.ts";
import { numbers } from "./rate.ts";

/** Jobs that are run before it is measured, and while it is; milliseconds that each takes at most. */
const WARM_UP = scaled(5_000, 10);
const JOBS = scaled(20_000, 50);
const WARM_UP_FOR = scaled(1_000, 600);
const RUN_FOR = scaled(4_000, 600);
/** Processes that work at once, and on how many times as many jobs; each runs ten. */
const PROCESSES = 2;
const TIMES = 3;
const TOGETHER = 10;
const BULK = 1_000;

export const running: Topic = {
  title: "run",
  unit: "jobs per second",
  isLess: false,
  subjects: queueNames(),
  questions: {
    concurrency1: ask(1),
    concurrency10: ask(10),
    concurrency100: ask(100),
    processes: {
      columns: [`${PROCESSES} processes, concurrency ${TOGETHER}`],
      measure: (subject, place) =>
        QUEUES[subject]?.isShared
          ? withQueue(subject, place, async (queue) => [await workTogether(queue)])
          : Promise.resolve(null),
      helpers: { worker: help },
    },
  },
};

function ask(concurrency: number): Question {
  return {
    columns: [`concurrency ${concurrency}`],
    measure: (subject: string, place: Place) =>
      withQueue(subject, place, async (queue) => [await work(queue, concurrency)]),
  };
}

/** Handlers are asynchronous functions that only count. */
async function work(queue: OpenQueue, concurrency: number): Promise<number> {
  await fill(queue, WARM_UP + JOBS);
  let ran = 0;
  const stop = queue.work(concurrency, async () => void ran++);
  const figure = await rateOf(async () => ran, WARM_UP, WARM_UP + JOBS);
  await stop();
  return figure;
}

/** The same by other processes, which are ready before any has begun. */
async function workTogether(queue: OpenQueue): Promise<number> {
  const [warmUp, all] = [WARM_UP * TIMES, (WARM_UP + JOBS) * TIMES];
  await fill(queue, all);
  await using stack = new AsyncDisposableStack();
  const workers = Array.from({ length: PROCESSES }, () => stack.use(spawnHelper("worker")));
  for (const worker of workers) await worker.read();
  const count = async (): Promise<number> => {
    const counts = await Promise.all(workers.map((worker) => worker.ask<number>("count")));
    return counts.reduce((sum, n) => sum + n, 0);
  };
  await count();
  return await rateOf(count, warmUp, all);
}

async function help(subject: string, place: Place): Promise<void> {
  await withQueue(subject, place, async (queue) => {
    let ran = 0;
    let isWorking = false;
    say("ready");
    await answer(() => {
      if (!isWorking) queue.work(TOGETHER, async () => void ran++);
      isWorking = true;
      return ran;
    });
  });
}

/** From when `warmUp` are done, or their time is over, until all are, or the time is over. */
async function rateOf(count: () => Promise<number>, warmUp: number, all: number): Promise<number> {
  const [before, start] = await reached(count, warmUp, WARM_UP_FOR);
  const [after, end] = await reached(count, all, RUN_FOR);
  return (after - before) / ((end - start) / 1_000);
}

/** How many there are, and when, once they are so many or the time is over. */
async function reached(count: () => Promise<number>, least: number, time: number): Promise<[number, number]> {
  for (const end = performance.now() + time; ;) {
    const found = await count();
    const now = performance.now();
    if (found >= least || now >= end) return [found, now];
    await Bun.sleep(1);
  }
}

async function fill(queue: OpenQueue, count: number): Promise<void> {
  for (let n = 0; n < count; n += BULK) await queue.addMany(numbers(Math.min(BULK, count - n)));
}
