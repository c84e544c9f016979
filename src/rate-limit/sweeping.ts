import { toUnixSeconds } from "../clock.ts";
import type { Context } from "../context.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { Upkeep } from "../upkeep.ts";

/** Rows that are looked at in one go: twice as many as can have been added since the last. */
const PORTION = 2_000;

/** Deletes windows that are over and buckets that are full, by walking over all of them again and again, some at a time. */
export function sweeping({ pool, clock, report }: Context): Upkeep {
  const after = { window: ["", 0] as [string, number], bucket: "" };
  return new Upkeep(
    pool,
    clock,
    (error) => report(error, "sweeping of rate limits"),
    async () => {
      const now = clock();
      const seconds = toUnixSeconds(now);
      const found = pool.readCommitted((connection) => {
        const { windows, buckets } = connection.use(prepareSweepStatements);
        return {
          windows: windows.all(...after.window, PORTION),
          buckets: buckets.all(after.bucket, PORTION),
        };
      });
      const over = found.windows.filter(({ ends_at }) => ends_at !== null && ends_at <= seconds);
      const full = found.buckets.filter(({ full_at }) => full_at <= now * 1_000);
      // Asked first, because a write would wake every process.
      if (over.length > 0 || full.length > 0) {
        await pool.loops.write((connection) => {
          const { dropWindow, dropBucket } = connection.use(prepareSweepStatements);
          for (const { name, window_start } of over) dropWindow.run(name, window_start, seconds);
          for (const { name } of full) dropBucket.run(name, now * 1_000);
        });
      }
      const [lastWindow, lastBucket] = [found.windows[PORTION - 1], found.buckets[PORTION - 1]];
      after.window = lastWindow === undefined ? ["", 0] : [lastWindow.name, lastWindow.window_start];
      after.bucket = lastBucket?.name ?? "";
      // While most of it is old there is more to be done than this pace would do.
      return over.length > PORTION / 2 || full.length > PORTION / 2;
    },
  );
}

interface SweepStatements {
  /** Those after a name and start, at most so many. */
  readonly windows: Statement<
    { name: string; window_start: number; ends_at: number | null },
    [string, number, number]
  >;
  readonly buckets: Statement<{ name: string; full_at: number }, [string, number]>;
  /** name, start, now in seconds. */
  readonly dropWindow: Statement<never, [string, number, number]>;
  /** name, now in microseconds. */
  readonly dropBucket: Statement<never, [string, number]>;
}

function prepareSweepStatements(connection: Connection): SweepStatements {
  return {
    windows: connection.prepare(
      `SELECT name, window_start, ends_at FROM _honker_rate_limits WHERE (name, window_start) > (?1, ?2)
       ORDER BY name, window_start LIMIT ?3`,
    ),
    buckets: connection.prepare(
      "SELECT name, full_at FROM _honkbun_buckets WHERE name > ?1 ORDER BY name LIMIT ?2",
    ),
    dropWindow: connection.prepare(
      "DELETE FROM _honker_rate_limits WHERE name = ?1 AND window_start = ?2 AND ends_at <= ?3",
    ),
    dropBucket: connection.prepare("DELETE FROM _honkbun_buckets WHERE name = ?1 AND full_at <= ?2"),
  };
}
