import type { Lock } from "../locks/lock.ts";
import type { Locks } from "../locks/locks.ts";

/** For how long a leader holds of which nobody can tell whether it lives. */
const TTL = "60s";
/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Holds a lock for as long as it is wanted, and wants it back when it is lost. */
export class Leadership {
  readonly #locks: Locks;
  readonly #name: string;
  readonly #changed: () => void;
  readonly #failed: (error: unknown) => void;
  #abort: AbortController | undefined;
  #lock: Lock | undefined;

  /** `changed` is called when the lock was taken. */
  constructor(locks: Locks, name: string, changed: () => void, failed: (error: unknown) => void) {
    this.#locks = locks;
    this.#name = name;
    this.#changed = changed;
    this.#failed = failed;
  }

  /** The lock, while it is held as far as is known. */
  get lock(): Lock | undefined {
    return this.#lock?.isHeld ? this.#lock : undefined;
  }

  want(isWanted: boolean): void {
    if (!isWanted) void this.giveUp();
    else if (this.#abort === undefined) {
      this.#abort = new AbortController();
      void this.#hold(this.#abort.signal);
    }
  }

  /** Resolves when it is free again. */
  async giveUp(): Promise<void> {
    this.#abort?.abort();
    this.#abort = undefined;
    const { lock } = this;
    this.#lock = undefined;
    await lock?.releaseSoon();
  }

  async #hold(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const lock = await this.#locks.lock(this.#name, { ttl: TTL, signal });
        if (signal.aborted) return lock.releaseSoon();
        this.#lock = lock;
        this.#changed();
        const lost = Promise.withResolvers<void>();
        lock.signal.addEventListener("abort", () => lost.resolve());
        signal.addEventListener("abort", () => lost.resolve());
        await lost.promise;
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        await Bun.sleep(PAUSE_AFTER_ERROR);
      }
    }
  }
}
