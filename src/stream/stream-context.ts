import type { Clock } from "../clock.ts";
import type { Pool } from "../sqlite/pool.ts";
import { SharedWrite } from "../sqlite/shared-write.ts";
import type { WakeHub } from "../wake/hub.ts";
import { StreamFeed } from "./feed.ts";
import { insertEvents, type NewEvent } from "./publishing.ts";

/** What all streams of a honkbun handle share. */
export interface StreamContext {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly feed: StreamFeed;
  readonly publications: SharedWrite<NewEvent, number>;
  report(error: unknown, where: string): void;
}

export function streamContext(
  pool: Pool,
  hub: WakeHub,
  clock: Clock,
  report: (error: unknown, where: string) => void,
): StreamContext {
  return {
    pool,
    clock,
    feed: new StreamFeed(pool, hub),
    publications: new SharedWrite(pool.loops, insertEvents),
    report,
  };
}
