import { show } from "../duration.ts";
import { assertName } from "../options.ts";
import type { EnqueueOptions } from "./enqueue-options.ts";
import type { Job } from "./job.ts";
import type { QueueContext } from "./queue-context.ts";
import { type QueueOptions, readQueueOptions } from "./queue-options.ts";
import { Queue } from "./queue.ts";
import type { Worker, WorkOptions } from "./work-options.ts";

/** Attempts by default: with a backoff from 5 s, what is down for a minute costs no delivery. */
const MAX_ATTEMPTS = 5;

/** What is to be delivered to another system: committed with the rows that it tells of, delivered after the commit. */
export class Outbox<P> {
  /** @internal */
  readonly queue: Queue<P>;
  readonly #handler: (job: Job<P>) => unknown;

  /** @internal */
  constructor(
    context: QueueContext,
    name: string,
    deliver: (payload: P, job: Job<P>) => unknown,
    options: QueueOptions | undefined,
  ) {
    assertName(name, "outbox: name");
    if (typeof deliver !== "function") {
      throw new TypeError(`outbox: deliver must be a function, got ${show(deliver)}`);
    }
    this.queue = new Queue(
      context,
      `_outbox:${name}`,
      readQueueOptions("outbox", { ...options, maxAttempts: options?.maxAttempts ?? MAX_ATTEMPTS }),
    );
    this.#handler = (job) => deliver(job.payload, job);
    context.lanes.set(this.queue.name, (work) => this.queue.lane(this.#handler, work));
  }

  /**
   * Stores what is to be delivered: on the open `db.transaction`, on `tx`, or committed by itself. Returns the job's id.
   * @throws as `queue.enqueue`
   */
  enqueue(payload: P, options?: EnqueueOptions): number {
    return this.queue.enqueue(payload, options);
  }

  /**
   * Calls `deliver` for each, in this process; see `queue.work`.
   * @throws TypeError, RangeError
   */
  work(options?: WorkOptions): Worker {
    return this.queue.work(this.#handler, options);
  }
}
