import { Client } from "pg";

import type { Place } from "./place.ts";

/** Null where there is no PostgreSQL. */
export async function connectPostgres({ postgres }: Place): Promise<Client | null> {
  if (postgres === undefined) return null;
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  return client;
}
