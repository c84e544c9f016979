import type { Connection, Statement } from "../sqlite/connection.ts";
import type { RateLimitResult, Rule } from "./rule.ts";

/** Stored times stay exact up to this, in microseconds. */
const LONGEST = 2 ** 51;

/**
 * A bucket is stored as the time at which it will be full, which says how much is in it at any other. That is one whole number,
 * goes on being right when limit or burst are changed, and a bucket that is full need not be stored at all.
 *
 * `per` in milliseconds.
 * @throws RangeError
 */
export function tokenBucket(limit: number, per: number, burst: number): Rule {
  // Whole microseconds, so that nothing is lost or won by rounding however often it is counted.
  const interval = Math.ceil((per * 1_000) / limit);
  if (per * 1_000 < limit) {
    throw new RangeError(
      `rateLimit: limit must be at most ${per * 1_000} for this per: one in a microsecond`,
    );
  }
  const capacity = burst * interval;
  if (capacity > LONGEST) {
    throw new RangeError(`rateLimit: per must be shorter: a burst of ${burst} would take more than 70 years`);
  }
  const answer = (allowed: boolean, fullAt: number, cost: number, at: number): RateLimitResult => ({
    allowed,
    remaining: Math.floor((capacity - (fullAt - at)) / interval),
    retryAfter: allowed ? 0 : Math.ceil((fullAt + cost * interval - at - capacity) / 1_000),
    resetAt: new Date(Math.ceil(fullAt / 1_000)),
  });
  return {
    most: burst,
    take: (connection, name, cost, now) => {
      const at = now * 1_000;
      const { take, read, lower } = connection.use(prepareBucketStatements);
      const row = take.get(name, at, cost * interval, at + capacity);
      if (row !== null) return answer(true, row.full_at, cost, at);
      // From before the clock was set back, or the burst was lowered: no bucket takes longer to fill than an empty one.
      if ((read.get(name)?.full_at ?? 0) > at + capacity) lower.run(name, at + capacity);
      return null;
    },
    look: (connection, name, cost, now) => {
      const at = now * 1_000;
      const stored = connection.use(prepareBucketStatements).read.get(name)?.full_at ?? at;
      const fullAt = Math.max(at, Math.min(stored, at + capacity));
      return answer(fullAt + cost * interval <= at + capacity, fullAt, cost, at);
    },
  };
}

interface BucketStatements {
  /** name, now, what it takes, until when it takes to fill an empty one. */
  readonly take: Statement<{ full_at: number }, [string, number, number, number]>;
  readonly read: Statement<{ full_at: number }, [string]>;
  readonly lower: Statement<never, [string, number]>;
}

function prepareBucketStatements(connection: Connection): BucketStatements {
  const taken = "max(?2, min(full_at, ?4)) + ?3";
  return {
    take: connection.prepare(
      `INSERT INTO _honkbun_buckets (name, full_at) VALUES (?1, ?2 + ?3)
       ON CONFLICT (name) DO UPDATE SET full_at = ${taken} WHERE ${taken} <= ?4
       RETURNING full_at`,
    ),
    lower: connection.prepare("UPDATE _honkbun_buckets SET full_at = ?2 WHERE name = ?1 AND full_at > ?2"),
    read: connection.prepare("SELECT full_at FROM _honkbun_buckets WHERE name = ?1"),
  };
}
