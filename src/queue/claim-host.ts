import type { Connection } from "../sqlite/connection.ts";
import type { ClaimHost } from "./claim-source.ts";
import { type Claimed, type Claiming, giveBackClaimed, settleUnreadable } from "./claiming.ts";
import type { Job } from "./job.ts";
import type { QueueContext } from "./queue-context.ts";

/** What a claim iterator does to the jobs of its queue, as writes of the loops. `claimSome` claims as many as it wants at once. */
export function claimHost<P, R>(
  { pool, loops, emit, report }: QueueContext,
  queue: string,
  claiming: Claiming<Job<P, R>>,
  claimSome: (connection: Connection) => Claimed,
): ClaimHost<P, R> {
  const abandoned = new Error("the claim loop's body ended without settling the job");
  const unlessClosed = async <T>(write: Promise<T>): Promise<T | null> => {
    try {
      return await write;
    } catch (error) {
      if (!pool.isClosed) throw error; // closing has given the job back already
      return null;
    }
  };
  return {
    name: queue,
    loops,
    report,
    claimNext: (claimed) => {
      loops.keeper.renewOverdue();
      return pool.loops.write((connection) => {
        const found = claimSome(connection);
        claimed(found);
        return found;
      });
    },
    read: (row, claim) => claiming.read(row, claim),
    settleUnreadable: async (job, unreadable) => {
      const outcome = await pool.loops.write((connection) => settleUnreadable(connection, job, unreadable));
      if (outcome !== null) job.settledByLoop(outcome, unreadable);
      else job.lease.lose(job.lease.lostError("claim"));
    },
    unsettled: ({ id, attempt }) => emit("job:unsettled", { id, queue, attempt, error: abandoned }),
    retryUnsettled: async (job) => {
      const outcome = await unlessClosed(
        pool.loops.write((connection) => (job.settled ? null : job.retryOn(connection, abandoned))),
      );
      if (outcome !== null) job.settledByLoop(outcome, abandoned);
    },
    giveBack: (claimed) =>
      unlessClosed(pool.loops.write((connection) => giveBackClaimed(connection, claimed))),
    giveBackJobs: async (jobs) => {
      const given = await unlessClosed(
        pool.loops.write((connection) => jobs.filter((job) => job.giveBackOn(connection))),
      );
      for (const job of given ?? []) job.settledByLoop(undefined);
    },
  };
}
