// Runs in a helper thread: a checkpoint writes and syncs megabytes, which would stall the event loop.
import { Database } from "bun:sqlite";

declare const self: Worker;

interface Request {
  readonly path: string;
  /** From so many pages on, the WAL is to be emptied so that it starts anew. */
  readonly emptyFrom: number;
  /** Set to 0 when done. Shared, because a caller that does not yield gets no messages. */
  readonly running: Int32Array;
}

interface Wal {
  readonly log: number;
  readonly checkpointed: number;
}

export interface Outcome {
  readonly reachedEnd: boolean;
  /** What SQLite has said, where it could not even try. */
  readonly error: string | undefined;
}

/** How long to ask for the write lock, in milliseconds. */
const PATIENCE = 100;
/** A checkpoint of so many milliseconds is short, and so many rounds are tried to get to one. */
const SHORT = 30;
const ROUNDS = 4;
/** A WAL of so many times the length from which it is emptied is far too long. */
const LONGEST = 3;

self.onmessage = ({ data: { path, emptyFrom, running } }: MessageEvent<Request>) => {
  let wal: Wal | null = null;
  let error: string | undefined;
  try {
    using db = new Database(path, { create: false, readwrite: true });
    using passive = db.prepare<Wal, []>("PRAGMA wal_checkpoint(PASSIVE)");
    wal = passive.get();
    if (wal !== null && wal.log >= emptyFrom && leavesLittle(passive, LONGEST * emptyFrom)) {
      // Beside writers that never pause a checkpoint never gets to the end, and the WAL grows. Now that most of it is
      // done, do the rest while nobody can write; the next writer then starts the WAL anew.
      using lock = new Database(path, { create: false, readwrite: true });
      if (begin(lock)) wal = passive.get();
    }
  } catch (cause) {
    // Such as BUSY while another process checkpoints: the next request will do.
    error = (cause as Error).message;
  }
  Atomics.store(running, 0, 0);
  // What was left when it began tells whether a reader keeps it from going on.
  self.postMessage({ reachedEnd: wal !== null && wal.checkpointed === wal.log, error } satisfies Outcome);
};

/**
 * Checkpoints until one was short, so that what was written meanwhile is little. On a slow disk that may never be; then
 * only a WAL that is far too long is worth keeping writers waiting for.
 */
function leavesLittle(passive: { get(): Wal | null }, farTooLong: number): boolean {
  for (let rounds = 0; rounds < ROUNDS; rounds++) {
    const start = performance.now();
    const log = passive.get()?.log ?? 0;
    if (performance.now() - start <= SHORT || log >= farTooLong) return true;
  }
  return false;
}

/** Spins, because SQLite's busy handler sleeps while others take the lock. The transaction ends as `db` is closed. */
function begin(db: Database): boolean {
  const deadline = performance.now() + PATIENCE;
  do {
    try {
      db.run("BEGIN IMMEDIATE");
      return true;
    } catch {}
  } while (performance.now() < deadline);
  return false;
}
