import { ClosedError } from "../../errors.ts";
import type { Connection } from "../../sqlite/connection.ts";
import type { Alarms } from "../../wake/alarms.ts";
import type { Claimed, Read } from "../claiming.ts";
import type { Job } from "../job.ts";
import type { Lane } from "../lane.ts";
import type { Claim } from "../lease.ts";
import type { LiveRow } from "../statements.ts";
import { HandlerThread, type ThreadListener } from "./handler-thread.ts";

/** What an isolated lane needs of its worker. */
export interface IsolatedHost {
  readonly alarms: Alarms;
  /** How many handlers run at once. */
  readonly concurrency: number;
  report(error: unknown): void;
}

/** Runs the jobs of a queue by a module, each in a thread of its own; threads are started when needed, and used again. */
export class IsolatedLane<J extends Job<unknown>> implements Lane<J>, ThreadListener {
  readonly #lane: Omit<Lane<J>, "run">;
  readonly #module: URL;
  readonly #host: IsolatedHost;
  readonly #idle: HandlerThread[] = [];
  readonly #taken = new Map<J, HandlerThread>();
  /** Those too that are to end, and have not yet. */
  readonly #all = new Set<HandlerThread>();

  constructor(lane: Omit<Lane<J>, "run">, module: URL, host: IsolatedHost) {
    this.#lane = lane;
    this.#module = module;
    this.#host = host;
  }

  get queue(): string {
    return this.#lane.queue;
  }

  claim(connection: Connection, count: number, startable: number): Claimed {
    return this.#lane.claim(connection, count, startable);
  }

  read(row: LiveRow, claim: Claim): Read<J> {
    return this.#lane.read(row, claim);
  }

  timeout(job: J): number | undefined {
    return this.#lane.timeout(job);
  }

  prepare(job: J): Promise<void> | undefined {
    let thread: HandlerThread | undefined;
    do thread = this.#idle.pop();
    while (thread?.isOver);
    try {
      thread ??= this.#start();
    } catch (error) {
      return Promise.reject(error);
    }
    this.#taken.set(job, thread);
    return thread.isLoaded ? undefined : thread.loaded;
  }

  async run(job: J): Promise<unknown> {
    const thread = this.#taken.get(job) as HandlerThread;
    try {
      return await thread.run(job);
    } finally {
      if (this.#taken.delete(job) && !thread.isOver) this.#idle.push(thread);
    }
  }

  abandon(job: J): void {
    const thread = this.#taken.get(job);
    if (thread === undefined) return;
    this.#taken.delete(job);
    if (thread.isLoaded) thread.terminate(job.signal.reason);
    else if (!thread.isOver) this.#idle.push(thread);
  }

  close(): void {
    const reason = new ClosedError("the worker is over");
    for (const thread of this.#all) thread.terminate(reason);
  }

  crashed(error: unknown): void {
    this.#host.report(error);
  }

  closed(thread: HandlerThread): void {
    this.#all.delete(thread);
  }

  #start(): HandlerThread {
    const { concurrency, alarms } = this.#host;
    if (this.#all.size >= 2 * concurrency) {
      throw new Error(
        `${this.#all.size - this.#taken.size} threads of ${this.#module.href} cannot be ended: they are blocked in calls of the system`,
      );
    }
    const thread = new HandlerThread(this.#module, alarms, this);
    this.#all.add(thread);
    return thread;
  }
}
