import type { Connection, Statement } from "../sqlite/connection.ts";
import { insertedId } from "../sqlite/stored.ts";
import { prepareStreamStatements } from "./statements.ts";

/** topic, key, payload, when it is published in seconds. */
export type NewEvent = readonly [topic: string, key: string | null, payload: string, createdAt: number];

/** Rows of one INSERT. */
const CHUNK = 32;

/** Stores one event by one statement. Returns its offset. */
export function insertEvent(connection: Connection, event: NewEvent): number {
  const changes = connection.use(prepareStreamStatements).publish.run(...event);
  return insertedId(connection, "_honker_stream", changes);
}

/** Stores events, in a transaction. Returns their offsets in order. */
export function insertEvents(connection: Connection, events: readonly NewEvent[]): number[] {
  const { chunk, hasTriggers } = connection.use(preparePublishStatements);
  const offsets: number[] = [];
  let index = 0;
  // The rows of one statement get consecutive offsets (AUTOINCREMENT), unless a trigger inserts others between.
  if (events.length >= CHUNK && hasTriggers.get() === null) {
    for (; index + CHUNK <= events.length; index += CHUNK) {
      const changes = chunk.run(...events.slice(index, index + CHUNK).flat());
      const last = insertedId(connection, "_honker_stream", changes, CHUNK);
      for (let offset = last - CHUNK + 1; offset <= last; offset++) offsets.push(offset);
    }
  }
  for (const event of events.slice(index)) offsets.push(insertEvent(connection, event));
  return offsets;
}

interface PublishStatements {
  readonly chunk: Statement<never, (string | number | null)[]>;
  readonly hasTriggers: Statement<{ n: number }, []>;
}

function preparePublishStatements(connection: Connection): PublishStatements {
  const row = (from: number): string => `(?${from + 1}, ?${from + 2}, ?${from + 3}, ?${from + 4})`;
  const rows = Array.from({ length: CHUNK }, (_, index) => row(index * 4));
  return {
    chunk: connection.prepare(
      `INSERT INTO _honker_stream (topic, key, payload, created_at) VALUES ${rows.join(", ")}`,
    ),
    hasTriggers: connection.prepare(
      `SELECT 1 AS n FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema)
       WHERE type = 'trigger' AND lower(tbl_name) = '_honker_stream' LIMIT 1`,
    ),
  };
}
