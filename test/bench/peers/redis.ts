import { RedisClient } from "bun";

import type { Place } from "./place.ts";

/** Bun's own client. Null where there is no Redis. */
export async function connectRedis({ redis }: Place): Promise<RedisClient | null> {
  if (redis === undefined) return null;
  const client = new RedisClient(redis.url);
  await client.connect();
  return client;
}
