import type { Clock } from "../clock.ts";
import type { Emitter, JobEvent } from "../events.ts";
import { Liveness } from "../liveness/liveness.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { Alarms } from "../wake/alarms.ts";
import type { WakeHub } from "../wake/hub.ts";
import { safeBackoff } from "./backoff.ts";
import { ClaimKeeper } from "./claim-keeper.ts";
import { ClaimLoops } from "./claim-loops.ts";
import { SharedInsertion } from "./insertion.ts";
import type { JobContext } from "./job.ts";
import { holdsJobs, releaseHandle } from "./operations.ts";
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
  readonly liveness: Liveness;
  /** The worker id of a claim that is made now: the label, and what is unique in all processes, for ever. */
  workerId(connection: Connection, label: string | number): string;
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
  const liveness = new Liveness(pool, hub, report);
  const emit: JobContext["emit"] = (event, job) => emitter.emit(event, job);
  liveness.add({
    retire: (connection, handle, pid) => {
      const freed: JobEvent[] = [];
      const isDone = releaseHandle(connection, handle, pid, clock(), (_, { id, queue, attempts }, error) => {
        freed.push({ id, queue, attempt: attempts, error });
      });
      return { isDone, report: () => freed.forEach((job) => void emit("job:retried", job)) };
    },
    isHeldBy: holdsJobs,
  });
  let count = 0;
  return {
    pool,
    clock,
    liveness,
    loops: new ClaimLoops(
      hub,
      new ReadyFeed(pool, hub, clock),
      new ClaimKeeper(pool, hub, clock, report),
      new Alarms(hub, clock),
      liveness,
    ),
    watches: new WatchFeed(pool, hub, clock),
    insertion: new SharedInsertion(pool.loops, emit),
    emit,
    report,
    workerId: (connection, label) => {
      liveness.register(connection);
      return `${label}~${liveness.handle}.${(count++).toString(36)}`;
    },
  };
}
