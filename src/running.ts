import type { Duration } from "./duration.ts";

/** What runs in the background. Keeps the process alive until it is stopped. `await using` stops it, and waits. */
export interface Running extends AsyncDisposable {
  /** Resolves when it has stopped, however that came; rejects when it cannot go on. */
  readonly stopped: Promise<void>;
  /**
   * Begins nothing new, lets what runs finish, and resolves then. After `timeout` (milliseconds or text; default: never),
   * counted from this call, what still runs is aborted and given back. May be called again, with a shorter time.
   */
  stop(options?: { readonly timeout?: Duration | undefined }): Promise<void>;
}
