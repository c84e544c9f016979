import { utimesSync } from "node:fs";

/** Milliseconds between two rings. Ringing on every commit would cost an enqueue 14 %. */
const GAP = 1;

/**
 * Tells the watchers of the WAL, in every process, that a commit is visible. The file's own event comes when frames are
 * written, which is before; this one comes after, so that a single look finds the commit however slow the disk is.
 */
export class Bell {
  readonly #wal: string;
  #last = Number.NEGATIVE_INFINITY;
  #trailing: Timer | undefined;
  #rings = 0;
  #failure: string | null = null;

  /** `path`: of the database. */
  constructor(path: string) {
    this.#wal = `${path}-wal`;
  }

  get rings(): number {
    return this.#rings;
  }

  /** Why the last failed ring failed (another user's file, for one). The watchers' ladder carries on without it. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Rings at once, or a millisecond later when it has just rung: the last commit is always rung for. */
  ring(): void {
    const now = performance.now();
    if (now - this.#last >= GAP) this.#strike(now);
    else this.#trailing ??= setTimeout(() => this.#strike(performance.now()), GAP);
  }

  close(): void {
    if (this.#trailing !== undefined) this.#strike(performance.now());
  }

  #strike(now: number): void {
    clearTimeout(this.#trailing);
    this.#trailing = undefined;
    this.#last = now;
    try {
      const time = Date.now() / 1_000;
      utimesSync(this.#wal, time, time);
      this.#rings++;
    } catch (error) {
      this.#failure = String(error);
    }
  }
}
