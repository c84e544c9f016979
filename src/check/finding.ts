/** One thing that is wrong with a file, or may become so. */
export interface Finding {
  readonly kind:
    "integrity" | "schema" | "trigger" | "wal" | "reader" | "stuck-jobs" | "orphaned-claims" | "clock";
  /** What was found. */
  readonly message: string;
  /** What to do. */
  readonly advice: string;
}

/** What `db.check()` has found. */
export interface CheckReport {
  /** Empty when all is well. */
  readonly findings: readonly Finding[];
  /** The write-ahead log; null in memory. */
  readonly wal: WalInfo | null;
}

export interface WalInfo {
  readonly bytes: number;
  /** As much of it as is not yet in the database file, and cannot be brought there now. */
  readonly pendingBytes: number;
}
