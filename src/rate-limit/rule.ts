import type { Connection } from "../sqlite/connection.ts";

/** What a limit answers. */
export interface RateLimitResult {
  readonly allowed: boolean;
  /** How many more are allowed now. */
  readonly remaining: number;
  /** Milliseconds until the same could be allowed, if nobody else comes before; 0 when it was. */
  readonly retryAfter: number;
  /** When the whole limit is there again. */
  readonly resetAt: Date;
}

/** How a limit counts. */
export interface Rule {
  /** The most that is ever allowed at once. */
  readonly most: number;
  /** Counts, if it is allowed, by one statement; null when it is not. */
  take(connection: Connection, name: string, cost: number, now: number): RateLimitResult | null;
  /** What `take` would say, and counts nothing. */
  look(connection: Connection, name: string, cost: number, now: number): RateLimitResult;
}
