import type { Place } from "./place.ts";

/** A queue that is open. Processes that open the same place share it, if they can. */
export interface OpenQueue {
  /** Stores a job, by the call for one; durable as the row says once it has returned or resolved. */
  add(n: number): unknown;
  /** The same by the call that many concurrent callers would use. Default: `add`. */
  addConcurrently?(n: number): Promise<unknown>;
  /** Stores many jobs by one call. */
  addMany(numbers: readonly number[]): unknown;
  /** Runs jobs, so many at once, by a handler that is given their numbers, until what this returns is called. */
  work(concurrency: number, handler: (n: number) => Promise<void>): () => unknown;
  close(): unknown;
}

export interface Queue {
  /** What the row says: which calls, and how durable they are. */
  readonly name: string;
  /** False where a worker has to be in the process that adds. */
  readonly isShared: boolean;
  /** Calls handlers; false for what is only the floor below the others. */
  readonly hasHandlers: boolean;
  /** Null when the server that it needs is not there. */
  open(place: Place): Promise<OpenQueue | null> | OpenQueue | null;
}

export const payload = (n: number): Payload => ({ to: "alice@example.com", n });

export interface Payload {
  readonly to: string;
  readonly n: number;
}
