import fs, { type FSWatcher } from "node:fs";

/** Watches the WAL file for events. It opens nothing: to close a descriptor of the file would drop SQLite's locks. */
export class WalWatcher {
  readonly #wal: string;
  readonly #onEvent: () => void;
  readonly #onLost: () => void;
  #watcher: FSWatcher | undefined;

  /** `path`: of the database, absolute, symbolic links resolved. */
  constructor(path: string, onEvent: () => void, onLost: () => void) {
    this.#wal = `${path}-wal`;
    this.#onEvent = onEvent;
    this.#onLost = onLost;
  }

  get isArmed(): boolean {
    return this.#watcher !== undefined;
  }

  /** False when the file is missing, or the system has no watch left to give. */
  arm(): boolean {
    this.disarm();
    try {
      const watcher = fs.watch(this.#wal, { persistent: false }, (type) => {
        if (watcher !== this.#watcher) return;
        // The name now stands for another file, or none. A watch is on the file, not the name.
        const isLost = type === "rename" && !this.arm();
        this.#onEvent();
        if (isLost) this.#onLost();
      });
      watcher.on("error", () => {
        if (watcher !== this.#watcher) return;
        this.disarm();
        this.#onLost();
      });
      this.#watcher = watcher;
    } catch {
      return false;
    }
    return true;
  }

  disarm(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}
