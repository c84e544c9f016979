import { type Clock, toUnixSeconds } from "../clock.ts";
import type { Pool } from "../sqlite/pool.ts";
import { Upkeep } from "../upkeep.ts";
import { preparePubSubStatements } from "./statements.ts";

/** A sweep looks at so many of the oldest rows, so that it holds the write lock for a few milliseconds at most. */
const PORTION = 1_000;
/** Seconds for which a row stays whatever their number: listeners that keep up must have seen it. */
const GRACE = 10;

/** Deletes old notifications. `maxAge` in milliseconds; Infinity for no bound. */
export function pruning(
  pool: Pool,
  clock: Clock,
  keep: { readonly maxAge: number; readonly maxCount: number },
  report: (error: unknown) => void,
): Upkeep {
  const bounds = (): [number, number, number, number] => {
    const now = clock();
    const last = pool.readCommitted(
      (connection) => connection.use(preparePubSubStatements).last.get()?.id ?? 0,
    );
    const oldestAllowed = keep.maxAge === Number.POSITIVE_INFINITY ? 0 : toUnixSeconds(now - keep.maxAge);
    const surplusThrough = keep.maxCount === Number.POSITIVE_INFINITY ? 0 : last - keep.maxCount;
    return [PORTION, surplusThrough, oldestAllowed, toUnixSeconds(now) - GRACE];
  };
  return new Upkeep(pool, clock, report, async () => {
    const bound = bounds();
    const found = pool.readCommitted((connection) =>
      connection.use(preparePubSubStatements).prunable.get(...bound),
    );
    if (!found?.n) return false; // asked first, because a write would wake every process
    await pool.loops.write((connection) => connection.use(preparePubSubStatements).prune.run(...bound));
    return found.n === PORTION;
  });
}
