/** Where a peer keeps what it stores: each measurement has a folder, or a database, of its own. */
export interface Place {
  readonly folder: string;
  /** Of servers that are running; undefined where they are not. */
  readonly redis: number | undefined;
  readonly postgres: string | undefined;
}

/** A queue that is open, and empty. */
export interface OpenPeer {
  /** Stores a job, by the call for one; durable as the row says once it has returned or resolved. */
  add(n: number): unknown;
  /** The same by the call that many concurrent callers would use. Default: `add`. */
  addConcurrently?(n: number): Promise<unknown>;
  /** Stores many jobs by one call. */
  addMany(numbers: readonly number[]): unknown;
  /** Runs jobs, so many at once, by an asynchronous handler that only calls `ran`, until what this returns is called. */
  work(concurrency: number, ran: () => void): () => unknown;
  close(): unknown;
}

export interface Peer {
  /** What the row says: which calls, and how durable they are. */
  readonly name: string;
  /** Commits that survive the death of the process, as honkbun's do; others stand in the table, and are not compared. */
  readonly isDurable: boolean;
  /** Null when the server that it needs is not there. */
  open(place: Place): Promise<OpenPeer | null> | OpenPeer | null;
}

export const payload = (n: number): { readonly to: string; readonly n: number } => ({
  to: "alice@example.com",
  n,
});
