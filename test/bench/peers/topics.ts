import { enqueueing } from "./questions/enqueueing.ts";
import { idling } from "./questions/idling.ts";
import { latency } from "./questions/latency.ts";
import { locks } from "./questions/locks.ts";
import { memory } from "./questions/memory.ts";
import { pubsub } from "./questions/pubsub.ts";
import { running } from "./questions/running.ts";
import { streams } from "./questions/streams.ts";
import type { Topic } from "./topic.ts";

/** In the order of the tables. */
export const TOPICS: Readonly<Record<string, Topic>> = {
  enqueueing,
  running,
  latency,
  pubsub,
  streams,
  locks,
  idling,
  memory,
};
