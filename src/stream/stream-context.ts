import type { Context } from "../context.ts";
import { SharedWrite } from "../sqlite/shared-write.ts";
import { StreamFeed } from "./feed.ts";
import { insertEvents, type NewEvent } from "./publishing.ts";

/** What all streams of a honkbun handle share. */
export interface StreamContext extends Context {
  readonly feed: StreamFeed;
  readonly publications: SharedWrite<NewEvent, number>;
}

export function streamContext(context: Context): StreamContext {
  const { pool, hub } = context;
  return {
    ...context,
    feed: new StreamFeed(pool, hub),
    publications: new SharedWrite(pool.loops, insertEvents),
  };
}
