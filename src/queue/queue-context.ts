import type { Context } from "../context.ts";
import type { Emitter, JobEvent } from "../events.ts";
import { safeBackoff } from "./backoff.ts";
import { ClaimKeeper } from "./claim-keeper.ts";
import { ClaimLoops } from "./claim-loops.ts";
import { SharedInsertion } from "./insertion.ts";
import type { JobContext } from "./job.ts";
import type { Lane } from "./lane.ts";
import { holdsJobs, releaseHandle } from "./operations.ts";
import type { QueueTerms } from "./queue-options.ts";
import { ReadyFeed } from "./ready-feed.ts";
import { WatchFeed } from "./watch.ts";
import type { WorkTerms } from "./work-options.ts";

/** What all queues of a honkbun handle share. */
export interface QueueContext extends Context {
  readonly loops: ClaimLoops;
  readonly watches: WatchFeed;
  readonly insertion: SharedInsertion;
  readonly emit: JobContext["emit"];
  /** The queues of which this process knows by itself what to do with their jobs: tasks, outboxes. */
  readonly lanes: Map<string, (work: WorkTerms) => Lane>;
}

/** Milliseconds for which a claim holds by default: one that its loop or batch makes, and one that a worker renews. */
export const CLAIM_VISIBILITY = 300_000;
export const WORK_VISIBILITY = 60_000;

/** What the jobs of a queue need of it. */
export function jobContext(context: QueueContext, queue: string, terms: QueueTerms): JobContext {
  const { pool, clock, emit, seams, report } = context;
  const loopBackoff = safeBackoff(terms.backoff, (error) => report(error, `backoff of ${queue}`));
  return { pool, clock, emit, seams, loopBackoff, ...terms };
}

export function queueContext(context: Context, emitter: Emitter): QueueContext {
  const { pool, hub, clock, liveness, report } = context;
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
  const ready = new ReadyFeed(pool, hub, clock);
  return {
    ...context,
    loops: new ClaimLoops(hub, liveness, ready, new ClaimKeeper(pool, hub, clock, report)),
    watches: new WatchFeed(pool, hub, clock),
    insertion: new SharedInsertion(pool.loops, emit),
    emit,
    lanes: new Map(),
  };
}
