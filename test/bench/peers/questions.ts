import { scaled } from "../support.ts";
import type { OpenPeer } from "./peer.ts";

export interface Question {
  readonly title: string;
  /** Measures once, on a queue that is empty; resolves with jobs per second. */
  measure(peer: OpenPeer): Promise<number>;
}

/** Milliseconds for which jobs are added before it is measured, and while it is. */
const WARM_UP = scaled(300, 5);
const DURATION = scaled(1_500, 20);
/** Jobs that are run before it is measured, and while it is; milliseconds that each takes at most. */
const WARM_UP_RUN = scaled(5_000, 10);
const RUN = scaled(20_000, 50);
const WARM_UP_FOR = scaled(1_000, 600);
const RUN_FOR = scaled(4_000, 600);
const BULK = scaled(1_000, 10);

export const QUESTIONS: Readonly<Record<string, Question>> = {
  add: { title: "enqueue, one by one", measure: (peer) => rate(1, () => peer.add(1)) },
  add100: { title: "enqueue, 100 callers", measure: (peer) => addConcurrently(peer, 100) },
  add1000: { title: "enqueue, 1,000 callers", measure: (peer) => addConcurrently(peer, 1_000) },
  addMany: {
    title: `enqueue, ${BULK.toLocaleString("en")} at once`,
    measure: (peer) => rate(BULK, () => peer.addMany(numbers(BULK))),
  },
  work1: { title: "run, concurrency 1", measure: (peer) => work(peer, 1) },
  work10: { title: "run, concurrency 10", measure: (peer) => work(peer, 10) },
  work100: { title: "run, concurrency 100", measure: (peer) => work(peer, 100) },
};

/** Each caller adds the next job once its last one is stored. */
function addConcurrently(peer: OpenPeer, callers: number): Promise<number> {
  const add = (): unknown => (peer.addConcurrently ?? peer.add)(1);
  return rate(callers, () => Promise.all(Array.from({ length: callers }, add)));
}

async function work(peer: OpenPeer, concurrency: number): Promise<number> {
  const count = WARM_UP_RUN + RUN;
  for (let n = 0; n < count; n += BULK) await peer.addMany(numbers(Math.min(BULK, count - n)));
  const [warm, done] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let ran = 0;
  const stop = peer.work(concurrency, () => {
    if (++ran === WARM_UP_RUN) warm.resolve();
    if (ran === count) done.resolve();
  });
  await Promise.race([warm.promise, Bun.sleep(WARM_UP_FOR)]);
  const [before, start] = [ran, performance.now()];
  await Promise.race([done.promise, Bun.sleep(RUN_FOR)]);
  const figure = (ran - before) / ((performance.now() - start) / 1_000);
  await stop();
  return figure;
}

/** Of something that stores so many jobs each time. */
async function rate(count: number, add: () => unknown): Promise<number> {
  for (const end = performance.now() + WARM_UP; performance.now() < end;) await add();
  let added = 0;
  const start = performance.now();
  for (const end = start + DURATION; performance.now() < end; added += count) await add();
  return added / ((performance.now() - start) / 1_000);
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, n) => n);
}
