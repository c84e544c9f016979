import { statSync } from "node:fs";

// @ts-expect-error it is imported as text, not as a module
import source from "./checkpoint-thread.ts" with { type: "text" };
import type { Connection } from "./connection.ts";

/** Pages in the WAL that are not yet in the database file; SQLite's own default for a checkpoint. */
const PAGES = 1_000;
/** A WAL that never empties, because writers never pause, grows without end: from here on it is restarted. */
const RESTART_PAGES = 16 * PAGES;

interface Wal {
  readonly log: number;
  readonly checkpointed: number;
}

/** Keeps the WAL short by checkpoints in a helper thread, which is started when first needed. */
export class Checkpointer {
  readonly #path: string;
  readonly #connection: () => Connection;
  #thread: Worker | undefined;
  #running = false;
  #failed = false;
  #closed = false;
  #notBefore = 0;
  #asksSqlite: boolean | undefined;

  /** `connection` is asked about the WAL, and used for checkpoints where no thread can run. */
  constructor(path: string, connection: () => Connection) {
    this.#path = path;
    this.#connection = connection;
  }

  /** Looks at the WAL, at most once per millisecond, and has it checkpointed when it has grown. Called after commits. */
  check(now: number): void {
    if (this.#running || this.#closed || now < this.#notBefore) return;
    this.#notBefore = now + 1;
    const { log, checkpointed } = this.#wal();
    const backlog = log - checkpointed;
    if (log >= RESTART_PAGES && backlog > 0) this.#run("RESTART");
    else if (backlog >= PAGES) this.#run("PASSIVE");
  }

  close(): void {
    this.#closed = true;
    // A checkpoint under way ends by itself, and closes its connection, before the thread does.
    if (!this.#running) this.#thread?.terminate();
  }

  #wal(): Wal {
    const { version, wal } = this.#connection().use(prepareCheckpointStatements);
    this.#asksSqlite ??= Bun.semver.order(version.get()?.version ?? "0.0.0", "3.51.0") >= 0;
    if (this.#asksSqlite) return wal.get() ?? { log: 0, checkpointed: 0 };
    // Before 3.51 "NOOP" would be a checkpoint. The file does not shrink when its frames are used again, so look seldom.
    this.#notBefore = performance.now() + 1_000;
    const size = statSync(`${this.#path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
    return { log: size / 4_096, checkpointed: 0 };
  }

  #run(mode: "PASSIVE" | "RESTART"): void {
    if (this.#failed) {
      // On this thread it stalls the event loop: only as a bound.
      if (mode === "RESTART") this.#connection().use(prepareCheckpointStatements).passive.get();
      return;
    }
    this.#running = true;
    this.#thread ??= this.#start();
    this.#thread.postMessage({ path: this.#path, mode });
  }

  #start(): Worker {
    // From text, so that a program compiled into one file carries the thread along.
    const url = URL.createObjectURL(new Blob([source as string], { type: "application/typescript" }));
    const thread = new Worker(url, { name: "honkbun checkpoint" });
    thread.unref();
    thread.onmessage = () => {
      this.#running = false;
      this.#notBefore = performance.now() + 10; // a reader may pin the WAL: do not try without pause
      if (this.#closed) thread.terminate();
    };
    thread.onerror = (event) => {
      event.preventDefault();
      this.#running = false;
      this.#failed = true;
      thread.terminate();
    };
    return thread;
  }
}

function prepareCheckpointStatements(connection: Connection) {
  return {
    version: connection.prepare<{ version: string }>("SELECT sqlite_version() AS version"),
    wal: connection.prepare<Wal>("PRAGMA wal_checkpoint(NOOP)"),
    passive: connection.prepare<Wal>("PRAGMA wal_checkpoint(PASSIVE)"),
  };
}
