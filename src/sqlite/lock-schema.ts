import type { Column } from "./schema.ts";

/** The fencing token of whoever holds the lock; NULL only within the statement that takes it. */
export const LOCK_COLUMNS: readonly Column[] = [{ name: "token", definition: "INTEGER" }];

/**
 * Tokens ascend for all names together, so that nothing need be remembered of a lock that nobody holds. The triggers count
 * whoever takes a lock: honker and plain SQL, too.
 */
export const LOCK_TABLES: string = `
  CREATE TABLE IF NOT EXISTS _honkbun_lock_tokens (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
  );
  INSERT OR IGNORE INTO _honkbun_lock_tokens (id, last) VALUES (1, 0);
  UPDATE _honker_locks SET token = rowid WHERE token IS NULL;
  UPDATE _honkbun_lock_tokens SET last = max(last, (SELECT coalesce(max(token), 0) FROM _honker_locks));

  -- who waits for a lock, in the order of coming; ttl in seconds, from when the lock is theirs
  CREATE TABLE IF NOT EXISTS _honkbun_lock_waiters (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT NOT NULL UNIQUE,
    ttl INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS _honkbun_lock_waiters_name ON _honkbun_lock_waiters(name, seq);

  CREATE TRIGGER IF NOT EXISTS _honkbun_lock_taken AFTER INSERT ON _honker_locks
  BEGIN
    UPDATE _honkbun_lock_tokens SET last = last + 1;
    UPDATE _honker_locks SET token = (SELECT last FROM _honkbun_lock_tokens)
      WHERE name = new.name AND new.token IS NULL;
  END;

  CREATE TRIGGER IF NOT EXISTS _honkbun_lock_taken_over AFTER UPDATE OF owner ON _honker_locks
    WHEN new.owner <> old.owner
  BEGIN
    UPDATE _honkbun_lock_tokens SET last = last + 1;
    UPDATE _honker_locks SET token = (SELECT last FROM _honkbun_lock_tokens)
      WHERE name = new.name AND new.token IS old.token;
  END;
`;
