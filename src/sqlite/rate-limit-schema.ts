import type { Column } from "./schema.ts";

export const RATE_LIMIT_COLUMNS: readonly Column[] = [
  /** When the window is over, in Unix seconds; NULL for one that only honker has counted in. */
  { name: "ends_at", definition: "INTEGER" },
];

export const RATE_LIMIT_TABLES = `
  -- token buckets that are not full, and when each will be, in epoch microseconds
  CREATE TABLE IF NOT EXISTS _honkbun_buckets (
    name TEXT PRIMARY KEY,
    full_at INTEGER NOT NULL
  ) WITHOUT ROWID;
`;
