import type { Clock } from "../clock.ts";
import { PushSource } from "../source.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import type { JobInfo } from "./job-info.ts";

interface Watcher {
  readonly id: number;
  /** The job is as this text says; another text, another state. */
  look(version: string): void;
  end(): void;
  fail(error: Error): void;
}

/** A job that is gone: completed, buried, cancelled. */
const GONE = "gone";

/** Tells watchers that their jobs have changed: on a look, all that are watched are compared by one query. */
export class WatchFeed implements Feed {
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();
  /** When the first of the delayed jobs becomes ready. */
  #deadline = Number.POSITIVE_INFINITY;

  constructor(pool: Pool, hub: WakeHub, clock: Clock) {
    this.#pool = pool;
    this.#hub = hub;
    this.#clock = clock;
  }

  /** @throws FileReplacedError, ClosedError */
  add(watcher: Watcher): void {
    if (this.#watchers.size === 0) this.#hub.add(this);
    this.#watchers.add(watcher);
    this.#hub.collectSoon(); // what it is now, and when that will change by itself
  }

  delete(watcher: Watcher): void {
    if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.#hub.remove(this);
  }

  /** Whether anybody waits for what becomes of a job. */
  get isWatched(): boolean {
    return this.#watchers.size > 0;
  }

  endAll(): void {
    for (const watcher of [...this.#watchers]) watcher.end();
  }

  /** Whether what is read is all that will have been committed by now; if not, everybody is asked to look again. */
  get isSettled(): boolean {
    if (!this.#pool.isUnsettled && !this.#pool.writer.inTransaction) return true;
    this.#hub.collectSoon();
    return false;
  }

  get followsLoops(): boolean {
    return true;
  }

  collect(): boolean {
    const now = this.#clock();
    const ids = JSON.stringify([...this.#watchers].map(({ id }) => id));
    const rows = this.#pool.readCommitted((connection) =>
      connection.use(prepareWatchStatements).versions.all(ids),
    );
    const versions = new Map<number, string>();
    this.#deadline = Number.POSITIVE_INFINITY;
    for (const { id, state, attempts, due, revision } of rows) {
      const isDelayed = (state === "pending" || state === "joining") && due > now;
      if (isDelayed) this.#deadline = Math.min(this.#deadline, due);
      versions.set(id, [state, isDelayed, attempts, revision].join());
    }
    for (const watcher of [...this.#watchers]) watcher.look(versions.get(watcher.id) ?? GONE);
    return false;
  }

  deadline(): number {
    return this.#deadline;
  }

  fail(error: Error): void {
    for (const watcher of [...this.#watchers]) watcher.fail(error);
  }
}

/** Yields what a job is now, then what it is after each change, as far as it is asked; ends after what ended it. */
export class JobWatch<P, R> extends PushSource<JobInfo<P, R>> implements Watcher {
  readonly id: number;
  readonly #feed: WatchFeed;
  readonly #read: () => JobInfo<P, R> | null;
  #last: JobInfo<P, R> | undefined;
  /** What the feed said last, and whether we have not read the job since. */
  #version: string | undefined;
  #isNew = true;

  constructor(
    feed: WatchFeed,
    id: number,
    read: () => JobInfo<P, R> | null,
    signal: AbortSignal | undefined,
  ) {
    super();
    this.id = id;
    this.#feed = feed;
    this.#read = read;
    if (!signal?.aborted) feed.add(this);
    this.attach(signal);
  }

  look(version: string): void {
    if (version !== this.#version) this.#isNew = true;
    this.#version = version;
    this.#yield();
  }

  protected override demand(): void {
    this.#yield();
  }

  protected override detached(): void {
    this.#feed.delete(this);
  }

  #yield(): void {
    if (!this.#isNew || this.wanted === 0) return;
    if (!this.#feed.isSettled) return; // a look follows
    const info = this.#read() ?? this.#completed();
    this.#isNew = false;
    if (info !== null && !isSame(info, this.#last)) {
      this.#last = info;
      this.push(info);
    }
    if (info === null || info.state === "completed" || info.state === "dead") this.end();
  }

  /** A job that we saw, and of which nothing is left, was acknowledged. */
  #completed(): JobInfo<P, R> | null {
    return this.#last === undefined ? null : { ...this.#last, state: "completed" };
  }
}

function isSame(a: JobInfo, b: JobInfo | undefined): boolean {
  return a.state === b?.state && a.attempts === b.attempts && Bun.deepEquals(a.progress, b.progress, true);
}

interface VersionRow {
  readonly id: number;
  readonly state: string;
  readonly attempts: number;
  readonly due: number;
  readonly revision: number | null;
}

interface WatchStatements {
  /** What changes whenever a watcher is to be told: ids as a JSON array. */
  readonly versions: Statement<VersionRow, [string]>;
}

function prepareWatchStatements(connection: Connection): WatchStatements {
  return {
    versions: connection.prepare(
      `SELECT id, state, attempts, due, (SELECT revision FROM _honkbun_progress WHERE job_id = id) AS revision
       FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1))`,
    ),
  };
}
