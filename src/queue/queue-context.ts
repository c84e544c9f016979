import type { Clock } from "../clock.ts";
import type { Emitter } from "../events.ts";
import type { Pool } from "../sqlite/pool.ts";
import { Alarms } from "../wake/alarms.ts";
import type { WakeHub } from "../wake/hub.ts";
import { safeBackoff } from "./backoff.ts";
import { ClaimKeeper } from "./claim-keeper.ts";
import { ClaimLoops } from "./claim-loops.ts";
import { SharedInsertion } from "./insertion.ts";
import type { JobContext } from "./job.ts";
import type { QueueTerms } from "./queue-options.ts";
import { ReadyFeed } from "./ready-feed.ts";
import { WatchFeed } from "./watch.ts";

/** What all queues of a honkbun handle share. */
export interface QueueContext {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly loops: ClaimLoops;
  readonly watches: WatchFeed;
  readonly insertion: SharedInsertion;
  readonly emit: JobContext["emit"];
  readonly report: (error: unknown, where: string) => void;
  /** Unique in all processes, for ever. */
  nonce(): string;
}

/** Milliseconds for which a claim holds by default: one that its loop or batch makes, and one that a worker renews. */
export const CLAIM_VISIBILITY = 300_000;
export const WORK_VISIBILITY = 60_000;

/** What the jobs of a queue need of it. */
export function jobContext(context: QueueContext, queue: string, terms: QueueTerms): JobContext {
  const { pool, clock, emit, report } = context;
  const loopBackoff = safeBackoff(terms.backoff, (error) => report(error, `backoff of ${queue}`));
  return { pool, clock, emit, loopBackoff, ...terms };
}

export function queueContext(pool: Pool, hub: WakeHub, clock: Clock, emitter: Emitter): QueueContext {
  const report = (error: unknown, where: string): void => emitter.emit("error", { error, where });
  return {
    pool,
    clock,
    loops: new ClaimLoops(
      hub,
      new ReadyFeed(pool, hub, clock),
      new ClaimKeeper(pool, hub, clock, report),
      new Alarms(hub, clock),
    ),
    watches: new WatchFeed(pool, hub, clock),
    insertion: new SharedInsertion(pool.loops),
    emit: (event, job) => emitter.emit(event, job),
    report,
    nonce: nonces(),
  };
}

/** Text that is unique in all processes, for ever: a random part for the handle, and a count. */
function nonces(): () => string {
  const random = crypto.randomUUID().replaceAll("-", "").slice(0, 16);
  let count = 0;
  return () => `${random}.${(count++).toString(36)}`;
}
