import { utimesSync } from "node:fs";

/** Milliseconds between two rings within a tick. Ringing on every commit would cost an enqueue 14 %. */
const GAP = 1;

/**
 * Tells the watchers of the WAL, in every process, that a commit is visible. The file's own event comes when frames are
 * written, which is before; this one comes after, so that a single look finds the commit however slow the disk is.
 */
export class Bell {
  readonly #wal: string;
  #last = Number.NEGATIVE_INFINITY;
  #trailing: NodeJS.Immediate | undefined;
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

  /** Rings at once, or at the end of the tick when it has just rung: the last commit of a tick is always rung for. */
  ring(): void {
    const now = performance.now();
    if (now - this.#last >= GAP) this.#strike(now);
    else this.#trailing ??= setImmediate(() => this.#strike(performance.now()));
  }

  close(): void {
    if (this.#trailing !== undefined) this.#strike(performance.now());
  }

  #strike(now: number): void {
    clearImmediate(this.#trailing);
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
