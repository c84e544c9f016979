import { statSync } from "node:fs";

import { assertDescriptorsLeft } from "../threads.ts";
import type { Outcome } from "./checkpoint-thread.ts";
// @ts-expect-error it is imported as text, not as a module
import source from "./checkpoint-thread.ts" with { type: "text" };
import type { Connection } from "./connection.ts";
import { describePinned, LONG_WAL, readersOf } from "./long-wal.ts";

/** Pages in the WAL that are not yet in the database file; SQLite's own default for a checkpoint. */
const PAGES = 1_000;
/** A WAL of so many pages is emptied, which keeps writers waiting for a moment. */
const EMPTY_FROM = 8 * PAGES;
/** Where no thread can run, checkpoints stall the event loop: only from so many pages on. */
const WITHOUT_THREAD = 4 * PAGES;
/** Bytes, as most files have it. */
const PAGE = 4_096;
/** Milliseconds between two times that it is told that the WAL is too long. */
const TELL_EVERY = 60_000;
/** Milliseconds for which no checkpoint got to the end before it is told: who reads for a moment keeps nothing. */
const PINNED_FOR = 1_000;
/** Milliseconds after a checkpoint before the next, and after one that could not get to the end: a reader pins the WAL. */
const PAUSE = 2;
const PINNED_PAUSE = 100;

interface Wal {
  readonly log: number;
  readonly checkpointed: number;
}

/** Keeps the WAL short by checkpoints in a helper thread, which is started when first needed. */
export class Checkpointer {
  readonly #path: string;
  readonly #connection: () => Connection;
  readonly #tooLong: (message: string) => void;
  #thread: Worker | undefined;
  /** 1 while the thread works. */
  readonly #running = new Int32Array(new SharedArrayBuffer(4));
  #failed = false;
  #closed = false;
  #notBefore = 0;
  #asksSqlite: boolean | undefined;
  /** When a checkpoint could not get to the end, and none has since. */
  #pinnedSince = Number.POSITIVE_INFINITY;
  #error: string | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;

  /**
   * `connection` is asked about the WAL, and used for checkpoints where no thread can run. `tooLong` is told now and then that the
   * WAL is, and why.
   */
  constructor(path: string, connection: () => Connection, tooLong: (message: string) => void) {
    this.#path = path;
    this.#connection = connection;
    this.#tooLong = tooLong;
  }

  /** Looks at the WAL, at most once per millisecond, and has it checkpointed when it has grown. Called after commits. */
  check(now: number): void {
    if (this.#closed || now < this.#notBefore || Atomics.load(this.#running, 0) === 1) return;
    this.#notBefore = now + 1;
    try {
      const { log, checkpointed } = this.#wal();
      const backlog = log - checkpointed;
      if (backlog < PAGES && (log < EMPTY_FROM || backlog === 0)) return;
      if (now - this.#pinnedSince >= PINNED_FOR && now - this.#toldAt > TELL_EVERY)
        this.#tellIfLong(now, backlog);
      if (!this.#failed && this.#request()) return;
      if (backlog < WITHOUT_THREAD) return;
      const done = this.#connection().use(prepareCheckpointStatements).passive.get();
      this.#setPinned(done !== null && done.checkpointed < done.log);
    } catch {
      // The commit that we come after is not to fail for this; the next one asks again.
    }
  }

  #setPinned(isPinned: boolean): void {
    this.#pinnedSince = isPinned ? Math.min(this.#pinnedSince, performance.now()) : Number.POSITIVE_INFINITY;
  }

  #tellIfLong(now: number, backlog: number): void {
    const { pageSize } = this.#connection().use(prepareCheckpointStatements);
    const bytes = backlog * (pageSize.get()?.page_size ?? PAGE);
    if (bytes <= LONG_WAL) return;
    this.#toldAt = now;
    const message = describePinned(bytes, readersOf(this.#path), this.#error);
    setImmediate(() => {
      if (!this.#closed) this.#tooLong(message);
    });
  }

  close(): void {
    this.#closed = true;
    // A checkpoint under way ends by itself, and closes its connections, before the thread does.
    if (Atomics.load(this.#running, 0) === 0) this.#thread?.terminate();
  }

  #wal(): Wal {
    const { version, wal } = this.#connection().use(prepareCheckpointStatements);
    this.#asksSqlite ??= Bun.semver.order(version.get()?.version ?? "0.0.0", "3.51.0") >= 0;
    if (this.#asksSqlite) return wal.get() ?? { log: 0, checkpointed: 0 };
    // Before 3.51 "NOOP" would be a checkpoint. The file does not shrink when its frames are used again, so look seldom.
    this.#notBefore += 1_000;
    const size = statSync(`${this.#path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
    return { log: size / PAGE, checkpointed: 0 };
  }

  /** False when there can be no thread, or not now. */
  #request(): boolean {
    try {
      if (this.#thread === undefined) assertDescriptorsLeft();
    } catch {
      return false; // there may be some later
    }
    try {
      this.#thread ??= this.#start();
    } catch {
      this.#failed = true;
      return false;
    }
    Atomics.store(this.#running, 0, 1);
    this.#thread.postMessage({ path: this.#path, emptyFrom: EMPTY_FROM, running: this.#running });
    return true;
  }

  #start(): Worker {
    // From text, so that a program compiled into one file carries the thread along.
    const url = URL.createObjectURL(new Blob([source as string], { type: "application/typescript" }));
    const thread = new Worker(url, { name: "honkbun checkpoint" });
    thread.unref();
    thread.onmessage = ({ data }: MessageEvent<Outcome>) => this.#onDone(data);
    thread.onerror = (event) => {
      event.preventDefault();
      this.#failed = true;
      Atomics.store(this.#running, 0, 0);
      thread.terminate();
    };
    return thread;
  }

  #onDone({ reachedEnd, error }: Outcome): void {
    if (this.#closed) {
      this.#thread?.terminate();
      return;
    }
    this.#setPinned(!reachedEnd);
    this.#error = error;
    const pause = reachedEnd ? PAUSE : PINNED_PAUSE;
    this.#notBefore = performance.now() + pause;
    // For what was written meanwhile, perhaps by the last commit for long.
    setTimeout(() => this.check(performance.now()), pause + 1).unref();
  }
}

function prepareCheckpointStatements(connection: Connection) {
  return {
    version: connection.prepare<{ version: string }>("SELECT sqlite_version() AS version"),
    wal: connection.prepare<Wal>("PRAGMA wal_checkpoint(NOOP)"),
    passive: connection.prepare<Wal>("PRAGMA wal_checkpoint(PASSIVE)"),
    pageSize: connection.prepare<{ page_size: number }>("PRAGMA page_size"),
  };
}
