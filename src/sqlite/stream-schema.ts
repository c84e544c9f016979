/** What streams need beside honker's two tables. */
export const STREAM_TABLES: string = `
  CREATE INDEX IF NOT EXISTS _honkbun_stream_key ON _honker_stream(topic, key, offset) WHERE key IS NOT NULL;

  -- events up to this offset were trimmed
  CREATE TABLE IF NOT EXISTS _honkbun_streams (
    topic TEXT PRIMARY KEY,
    trimmed_through INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;

  -- events up to this offset were handed on, as jobs of a queue, to those who compete for them
  CREATE TABLE IF NOT EXISTS _honkbun_stream_groups (
    topic TEXT NOT NULL,
    name TEXT NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (topic, name)
  ) WITHOUT ROWID;

  -- the last time that a consumer was sent elsewhere; seq tells those who follow it
  CREATE TABLE IF NOT EXISTS _honkbun_stream_seeks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    name TEXT NOT NULL,
    offset INTEGER NOT NULL,
    UNIQUE (topic, name)
  );
`;
