import { scaled } from "../../support.ts";
import type { Place } from "../place.ts";
import type { OpenQueue } from "../queue.ts";
import { queueNames, withQueue } from "../queues.ts";
import type { Question, Topic } from "../topic.ts";
import { numbers, rate } from "./rate.ts";

const BULK = scaled(1_000, 10);

export const enqueueing: Topic = {
  title: "enqueue",
  unit: "jobs per second",
  isLess: false,
  subjects: queueNames(),
  questions: {
    one: ask("one by one", (queue) => rate(1, () => queue.add(1))),
    callers100: ask("100 callers", (queue) => addConcurrently(queue, 100)),
    callers1000: ask("1,000 callers", (queue) => addConcurrently(queue, 1_000)),
    bulk: ask(`${BULK.toLocaleString("en")} at once`, (queue) =>
      rate(BULK, () => queue.addMany(numbers(BULK))),
    ),
  },
};

function ask(column: string, measure: (queue: OpenQueue) => Promise<number>): Question {
  return {
    columns: [column],
    measure: (subject: string, place: Place) =>
      withQueue(subject, place, async (queue) => [await measure(queue)]),
  };
}

/** Each caller adds the next job once its last one is stored. */
function addConcurrently(queue: OpenQueue, callers: number): Promise<number> {
  const add = (): unknown => (queue.addConcurrently ?? queue.add)(1);
  return rate(callers, () => Promise.all(Array.from({ length: callers }, add)));
}
