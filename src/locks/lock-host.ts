import type { Clock } from "../clock.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Lock } from "./lock.ts";

/** What a lock needs of those that look after it. */
export interface LockHost {
  readonly pool: Pool;
  readonly clock: Clock;
  /** It needs no more care. */
  released(lock: Lock): void;
  /** It holds for its whole time from now on. */
  renewed(lock: Lock): void;
  /** Frees it as soon as that can be written, without waiting. */
  releaseSoon(lock: Lock): Promise<void>;
}
