import { readFileSync, statSync } from "node:fs";

/** The byte of the `-shm` file that SQLite locks while a connection is inside a write transaction. */
const WRITE_LOCK_BYTE = 120;

/**
 * Whether a connection of this process holds the write lock of the database at `path`. Linux lists all locks with their
 * holders; where there is no such list the answer is no.
 */
export function holdsWriteLock(path: string): boolean {
  try {
    const inode = statSync(`${path}-shm`).ino;
    const lock = new RegExp(
      `^\\d+: POSIX +ADVISORY +WRITE +${process.pid} [0-9a-f]+:[0-9a-f]+:${inode} ${WRITE_LOCK_BYTE} ${WRITE_LOCK_BYTE}$`,
      "m",
    );
    return lock.test(readFileSync("/proc/locks", "utf8"));
  } catch {
    return false;
  }
}
