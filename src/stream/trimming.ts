import { toUnixSeconds } from "../clock.ts";
import { OffsetTrimmedError } from "../errors.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";

/** Events that are looked at, and deleted, in one transaction at most. */
export const TRIM_PORTION = 1_000;

/** What is to stay; null for no bound. Milliseconds. */
export interface Kept {
  readonly maxAge: number | null;
  readonly maxCount: number | null;
}

/** Deletes the oldest events as far as they are not to stay, in a bounded portion. Returns how many those were. */
export function trimPortion(
  connection: Connection,
  topic: string,
  { maxAge, maxCount }: Kept,
  now: number,
  isPastConsumers: boolean,
): number {
  const { surplus, floor, oldest, remove, noteTrimmed } = connection.use(prepareTrimStatements);
  const surplusThrough = maxCount === null ? 0 : (surplus.get(topic, maxCount)?.offset ?? 0);
  const before = maxAge === null ? 0 : toUnixSeconds(now - maxAge);
  const through = isPastConsumers
    ? Number.MAX_SAFE_INTEGER
    : (floor.get(topic)?.offset ?? Number.MAX_SAFE_INTEGER);
  let last = 0;
  let count = 0;
  for (const { offset, created_at } of oldest.all(topic, TRIM_PORTION)) {
    // Of what comes after one that stays, nothing goes.
    if (offset > through || (offset > surplusThrough && created_at >= before)) break;
    last = offset;
    count++;
  }
  if (count === 0) return 0;
  // A trigger may have deleted them before.
  const areGone =
    remove.run(topic, last).changes >= count ||
    (oldest.get(topic, 1)?.offset ?? Number.MAX_SAFE_INTEGER) > last;
  assertStored("_honker_stream", areGone);
  noteTrimmed.run(topic, last);
  return count;
}

/** Events of the topic up to this offset are gone. */
export function trimmedThrough(connection: Connection, topic: string): number {
  return connection.use(prepareTrimStatements).trimmed.get(topic)?.offset ?? 0;
}

/** What a consumer is told that was at `position`. */
export function trimmedError(topic: string, position: number, through: number): OffsetTrimmedError {
  return new OffsetTrimmedError(
    `events of ${topic} after offset ${position} were trimmed, through ${through}, before this consumer could read them; ` +
      "give onTrimmed to go on with what is left, or seek",
    through,
  );
}

interface TrimStatements {
  readonly trimmed: Statement<{ offset: number }, [string]>;
  /** The newest event that is too much: topic, how many may stay. */
  readonly surplus: Statement<{ offset: number }, [string, number]>;
  /** How far the slowest consumer or group is. */
  readonly floor: Statement<{ offset: number | null }, [string]>;
  readonly oldest: Statement<{ offset: number; created_at: number }, [string, number]>;
  readonly remove: Statement<never, [string, number]>;
  readonly noteTrimmed: Statement<never, [string, number]>;
}

function prepareTrimStatements(connection: Connection): TrimStatements {
  return {
    trimmed: connection.prepare("SELECT trimmed_through AS offset FROM _honkbun_streams WHERE topic = ?1"),
    surplus: connection.prepare(
      "SELECT offset FROM _honker_stream WHERE topic = ?1 ORDER BY offset DESC LIMIT 1 OFFSET ?2",
    ),
    floor: connection.prepare(
      `SELECT min(offset) AS offset FROM (
         SELECT offset FROM _honker_stream_consumers WHERE topic = ?1
         UNION ALL SELECT offset FROM _honkbun_stream_groups WHERE topic = ?1)`,
    ),
    oldest: connection.prepare(
      "SELECT offset, created_at FROM _honker_stream WHERE topic = ?1 ORDER BY offset LIMIT ?2",
    ),
    remove: connection.prepare("DELETE FROM _honker_stream WHERE topic = ?1 AND offset <= ?2"),
    noteTrimmed: connection.prepare(
      `INSERT INTO _honkbun_streams (topic, trimmed_through) VALUES (?1, ?2)
       ON CONFLICT (topic) DO UPDATE SET trimmed_through = max(trimmed_through, excluded.trimmed_through)`,
    ),
  };
}
