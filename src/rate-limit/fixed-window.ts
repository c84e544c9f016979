import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { RateLimitResult, Rule } from "./rule.ts";

/** honker's windows, in its table. `per` in seconds. */
export function fixedWindow(limit: number, per: number): Rule {
  const answer = (allowed: boolean, count: number, start: number, now: number): RateLimitResult => {
    const end = (start + per) * 1_000;
    return {
      allowed,
      remaining: Math.max(limit - count, 0),
      retryAfter: allowed ? 0 : end - now,
      resetAt: new Date(end),
    };
  };
  const startOf = (now: number): number => Math.floor(toUnixSeconds(now) / per) * per;
  return {
    most: limit,
    take: (connection, name, cost, now) => {
      const start = startOf(now);
      const { count } = connection.use(prepareWindowStatements);
      const row = count.get(name, start, cost, start + per, limit);
      return row === null ? null : answer(true, row.count, start, now);
    },
    look: (connection, name, cost, now) => {
      const start = startOf(now);
      const counted = connection.use(prepareWindowStatements).read.get(name, start)?.count ?? 0;
      return answer(counted + cost <= limit, counted, start, now);
    },
  };
}

interface WindowStatements {
  /** name, start, cost, end, limit. */
  readonly count: Statement<{ count: number }, [string, number, number, number, number]>;
  readonly read: Statement<{ count: number }, [string, number]>;
}

function prepareWindowStatements(connection: Connection): WindowStatements {
  return {
    count: connection.prepare(
      `INSERT INTO _honker_rate_limits (name, window_start, count, ends_at) VALUES (?1, ?2, ?3, ?4)
       ON CONFLICT (name, window_start) DO UPDATE SET count = count + excluded.count, ends_at = excluded.ends_at
         WHERE count + excluded.count <= ?5
       RETURNING count`,
    ),
    read: connection.prepare("SELECT count FROM _honker_rate_limits WHERE name = ?1 AND window_start = ?2"),
  };
}
