import { DeadLetters } from "../queue/dead-letters.ts";
import type { JobState } from "../queue/job-info.ts";
import { Outbox } from "../queue/outbox.ts";
import { Queue } from "../queue/queue.ts";
import { Task } from "../task/task.ts";
import { brief } from "./brief.ts";

/** So many jobs are shown, of each state. */
const SHOWN = 10;
const STATES = ["ready", "delayed", "processing", "blocked"] as const satisfies readonly JobState[];

// biome-ignore-start lint/suspicious/noExplicitAny: of whatever type their payloads are
type AnyQueue = Queue<any, any, any>;
type Class<T> = abstract new (...args: any[]) => T;
// biome-ignore-end lint/suspicious/noExplicitAny: of whatever type their payloads are

/**
 * Bun's own `toBeEmpty` goes by a `length`, and shows what it was given. So queues get both, where this module is loaded: how many
 * jobs are to run, now or later.
 */
export function letToBeEmptyKnowQueues(): void {
  add(Queue, countJobs, showJobs);
  add(
    Outbox,
    ({ queue }) => countJobs(queue),
    ({ queue }) => showJobs(queue),
  );
  add(
    Task,
    ({ queue }) => countJobs(queue),
    ({ queue }) => showJobs(queue),
  );
  add(DeadLetters, (dead) => dead.list({ limit: 10_000 }).length, showDead);
}

function add<T>(type: Class<T>, length: (value: T) => number, show: (value: T) => string): void {
  Object.defineProperties(type.prototype, {
    length: {
      configurable: true,
      get(this: T) {
        return length(this);
      },
    },
    [Bun.inspect.custom]: {
      configurable: true,
      value(this: T) {
        try {
          return show(this);
        } catch {
          return `[${type.name} of a database that is closed]`;
        }
      },
    },
  });
}

function countJobs(queue: AnyQueue): number {
  const counts = queue.counts();
  return STATES.reduce((sum, state) => sum + counts[state], 0);
}

function showJobs(queue: AnyQueue): string {
  const counts = queue.counts();
  const found = STATES.filter((state) => counts[state] > 0);
  if (found.length === 0) return `queue ${JSON.stringify(queue.name)}, empty`;
  const jobs = found.flatMap((state) =>
    queue
      .list({ state, limit: SHOWN })
      .map(({ id, payload }) => `\n  job ${id}, ${state}: ${brief(payload)}`),
  );
  const sums = found.map((state) => `${counts[state]} ${state}`);
  return `queue ${JSON.stringify(queue.name)} with ${sums.join(", ")}${jobs.join("")}`;
}

function showDead(dead: DeadLetters<unknown>): string {
  const jobs = dead
    .list({ limit: SHOWN })
    .map(
      ({ id, payload, errors }) =>
        `\n  job ${id}: ${brief(payload)}, ${errors.at(-1)?.message ?? "no error"}`,
    );
  return jobs.length === 0 ? "dead letters, none" : `dead letters${jobs.join("")}`;
}
