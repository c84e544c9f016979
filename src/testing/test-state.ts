import type { Internals } from "../database.ts";
import type { Queue } from "../queue/queue.ts";
import type { Pool } from "../sqlite/pool.ts";
import { Handlers } from "./handlers.ts";
import type { SteppedClock } from "./test-clock.ts";

/** What is known of a test database beside what every handle knows. */
export interface TestState {
  readonly clock: SteppedClock;
  readonly handlers: Handlers;
  /** By name, the handles that `db.queue` has returned last, those without options only where there is no other. */
  readonly queues: ReadonlyMap<string, Queue<never, unknown, unknown>>;
}

const states = new WeakMap<Pool, TestState>();

export function beginTest(parts: Internals, clock: SteppedClock): void {
  const { pool, seams } = parts.queues;
  const queues = new Map<string, Queue<never, unknown, unknown>>();
  const handlers = new Handlers();
  handlers.attach(seams);
  seams.opened = (queue, hasOptions) => {
    if (hasOptions || !queues.has(queue.name)) queues.set(queue.name, queue);
  };
  clock.attach(parts);
  states.set(pool, { clock, handlers, queues });
}

/** Undefined for a database that `testDatabase` has not made. */
export function stateOf(pool: Pool): TestState | undefined {
  return states.get(pool);
}
