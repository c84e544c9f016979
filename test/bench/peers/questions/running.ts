import { answer, say } from "../../../support/programs/channel.ts";
import { instant, scaled } from "../../support.ts";
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

/** Counts jobs as they run, with the time: some workers leave nobody else a turn of the event loop while there are jobs. */
class Counter {
  /** When so many had run, in milliseconds on one time line for all processes. */
  readonly #marks = new Map<number, number>();
  ran = 0;

  /** `marks`: the counts at which the time is taken. */
  constructor(marks: readonly number[]) {
    for (const mark of marks) this.#marks.set(mark, Number.NaN);
  }

  readonly handler = async (): Promise<void> => {
    this.ran++;
    if (this.#marks.has(this.ran)) this.#marks.set(this.ran, instant());
  };

  at(count: number): number {
    return this.#marks.get(count) ?? Number.NaN;
  }
}

/** Handlers are asynchronous functions that only count. */
async function work(queue: OpenQueue, concurrency: number): Promise<number> {
  await fill(queue, WARM_UP + JOBS);
  const counter = new Counter([WARM_UP, WARM_UP + JOBS]);
  const stop = queue.work(concurrency, counter.handler);
  await until(() => counter.ran >= WARM_UP, WARM_UP_FOR);
  const [before, start] = [counter.ran, instant()];
  await until(() => counter.ran >= WARM_UP + JOBS, RUN_FOR);
  const [after, end] = [counter.ran, instant()];
  await stop();
  return after < WARM_UP + JOBS
    ? perSecond(after - before, start, end)
    : perSecond(JOBS, counter.at(WARM_UP), counter.at(WARM_UP + JOBS));
}

/** The same by other processes, from the first job to the last. They are ready before any has begun. */
async function workTogether(queue: OpenQueue): Promise<number> {
  const all = (WARM_UP + JOBS) * TIMES;
  await fill(queue, all);
  await using stack = new AsyncDisposableStack();
  const workers = Array.from({ length: PROCESSES }, () => stack.use(spawnHelper("worker")));
  for (const worker of workers) await worker.read();
  const look = (): Promise<Progress[]> => Promise.all(workers.map((worker) => worker.ask<Progress>("look")));
  const limit = performance.now() + WARM_UP_FOR + RUN_FOR;
  for (;;) {
    const found = await look();
    const ran = found.reduce((sum, progress) => sum + progress.ran, 0);
    if (ran >= all || performance.now() > limit) {
      return perSecond(
        ran,
        Math.min(...found.map(({ first }) => first)),
        Math.max(...found.map(({ last }) => last)),
      );
    }
    await Bun.sleep(20);
  }
}

interface Progress {
  readonly ran: number;
  /** When the first and the last had run by now. */
  readonly first: number;
  readonly last: number;
}

async function help(subject: string, place: Place): Promise<void> {
  await withQueue(subject, place, async (queue) => {
    let [ran, first, last] = [0, Number.MAX_VALUE, 0];
    let isWorking = false;
    say("ready");
    await answer((): Progress => {
      if (!isWorking) {
        queue.work(TOGETHER, async () => {
          last = instant();
          if (ran++ === 0) first = last;
        });
      }
      isWorking = true;
      return { ran, first, last };
    });
  });
}

function perSecond(count: number, start: number, end: number): number {
  return count / ((end - start) / 1_000);
}

async function until(isReached: () => boolean, time: number): Promise<void> {
  for (const end = performance.now() + time; !isReached() && performance.now() < end;) await Bun.sleep(1);
}

async function fill(queue: OpenQueue, count: number): Promise<void> {
  for (let n = 0; n < count; n += BULK) await queue.addMany(numbers(Math.min(BULK, count - n)));
}
