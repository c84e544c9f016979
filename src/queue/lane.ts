import type { Connection } from "../sqlite/connection.ts";
import type { Claimed, Read } from "./claiming.ts";
import type { Job } from "./job.ts";
import type { Claim } from "./lease.ts";
import type { LiveRow } from "./statements.ts";

/** What was to call a handler has ended before it did, by what another job had left behind. */
export class NotBegunError extends Error {}

/** The jobs of one queue, and what a worker does with them. */
export interface Lane<J extends Job<unknown> = Job<unknown>> {
  readonly queue: string;
  /** Claims up to `count` jobs, of which so many can be started at once; on a connection that is inside a transaction. */
  claim(connection: Connection, count: number, startable: number): Claimed;
  /** Whether a claim would find more than what is in the queue by now. */
  hasMore?(connection: Connection): boolean;
  /** Reads one that was claimed. */
  read(row: LiveRow, claim: Claim): Read<J>;
  /** Where handlers cannot be called at any time: makes ready to run this job. Rejects when that fails. */
  prepare?(job: J): Promise<void> | undefined;
  /** Calls the handler. Rejects with NotBegunError when it could not, and may be called again. */
  run(job: J): unknown;
  /** Where handlers can be ended from outside: the one of this job is not waited for any longer, or not to be called. */
  abandon?(job: J): void;
  /** The worker is over. */
  close?(): void;
  /** How long the handler may take, in milliseconds. */
  timeout(job: J): number | undefined;
}
