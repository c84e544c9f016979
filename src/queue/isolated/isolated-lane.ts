import { ClosedError } from "../../errors.ts";
import type { Connection } from "../../sqlite/connection.ts";
import type { Alarms } from "../../wake/alarms.ts";
import type { Claimed, Read } from "../claiming.ts";
import type { Job } from "../job.ts";
import type { Lane } from "../lane.ts";
import type { Claim } from "../lease.ts";
import type { LiveRow } from "../statements.ts";
import { HandlerThread } from "./handler-thread.ts";

/** Runs the jobs of a queue by a module, each in a thread of its own; threads are started when needed, and used again. */
export class IsolatedLane<J extends Job<unknown>> implements Lane<J> {
  readonly #lane: Omit<Lane<J>, "run">;
  readonly #module: URL;
  readonly #alarms: Alarms;
  readonly #report: (error: unknown) => void;
  readonly #idle: HandlerThread[] = [];
  readonly #taken = new Map<J, HandlerThread>();

  constructor(lane: Omit<Lane<J>, "run">, module: URL, alarms: Alarms, report: (error: unknown) => void) {
    this.#lane = lane;
    this.#module = module;
    this.#alarms = alarms;
    this.#report = report;
  }

  get queue(): string {
    return this.#lane.queue;
  }

  claim(connection: Connection, count: number): Claimed {
    return this.#lane.claim(connection, count);
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
      thread ??= new HandlerThread(this.#module, this.#alarms, this.#report);
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
    for (const thread of [...this.#idle, ...this.#taken.values()]) thread.terminate(reason);
  }
}
