import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import { prepareStreamStatements } from "./statements.ts";

/** Offsets that are looked at in one turn at most. */
const PAGE = 1_000;

/** Somebody who follows a topic. */
export interface Follower {
  readonly topic: string;
  /** Whether it is at work, or about to be: as far as it can tell. */
  readonly isBusy: boolean;
  /** There may be more to read. */
  wake(): void;
  /** A consumer of the topic was sent to an offset. */
  sought(consumer: string, offset: number, seq: number): void;
  /** Ends at once. */
  end(): void;
  /** Ends, and resolves when all that it has handled is saved. */
  stop(): Promise<unknown>;
  fail(error: Error): void;
  /** What is to be saved before the handle is closed. */
  readonly unsaved: Unsaved | undefined;
}

/** How far a consumer has handled events, and the last seek that it knows of. */
export interface Unsaved {
  readonly consumer: string;
  readonly topic: string;
  readonly offset: number;
  readonly seq: number;
}

/** Wakes those who follow a topic: on a look, what is new is read once for all topics. */
export class StreamFeed implements Feed {
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #followers = new Map<string, Set<Follower>>();
  /** They follow no longer, and how far they are is not saved yet. */
  readonly #ending = new Set<Follower>();
  /** Each is called when a follower has ended by an error. */
  readonly failed: Set<(follower: Follower, error: Error) => void> = new Set();
  #count = 0;
  /** Offsets and seeks up to these were seen. */
  #cursor = 0;
  #seek = 0;

  constructor(pool: Pool, hub: WakeHub) {
    this.#pool = pool;
    this.#hub = hub;
  }

  get all(): readonly Follower[] {
    return [...this.#followers.values()].flatMap((set) => [...set]);
  }

  /**
   * To be called before a follower reads: it is woken for what commits from now on.
   * @throws FileReplacedError, ClosedError
   */
  add(follower: Follower): void {
    if (this.#count === 0) {
      this.#hub.add(this);
      this.#pool.readCommitted((connection) => {
        const { lastOffset, lastSeek } = connection.use(prepareStreamStatements);
        this.#cursor = lastOffset.get()?.offset ?? 0;
        this.#seek = lastSeek.get()?.seq ?? 0;
      });
    }
    this.#count++;
    const set = this.#followers.get(follower.topic) ?? new Set();
    this.#followers.set(follower.topic, set.add(follower));
  }

  delete(follower: Follower): void {
    const set = this.#followers.get(follower.topic);
    if (!set?.delete(follower)) return;
    if (follower.unsaved !== undefined) this.#ending.add(follower);
    if (set.size === 0) this.#followers.delete(follower.topic);
    if (--this.#count === 0) this.#hub.remove(this);
  }

  /** One that follows no longer has nothing to save any more. */
  forget(follower: Follower): void {
    this.#ending.delete(follower);
  }

  /** Offsets after this one are given again: of a transaction in memory that was rolled back. */
  rewind(last: number): void {
    this.#cursor = Math.min(this.#cursor, last);
  }

  /** Whether what is read now is committed; if not, all are woken when it is. */
  get isSettled(): boolean {
    if (!this.#pool.isUnsettled) return true;
    this.#hub.collectSoon();
    return false;
  }

  get followsLoops(): boolean {
    return true;
  }

  collect(): boolean {
    const { heads, seeks, last } = this.#pool.readCommitted((connection) => {
      const statements = connection.use(prepareStreamStatements);
      return {
        heads: statements.heads.all(this.#cursor, PAGE),
        seeks: statements.seeksAfter.all(this.#seek),
        last: statements.lastOffset.get()?.offset ?? 0,
      };
    });
    // A rollback in memory, or whoever empties the table, gives offsets a second time.
    this.#cursor = heads.at(-1)?.offset ?? Math.min(this.#cursor, last);
    for (const { seq, topic, name, offset } of seeks) {
      this.#seek = seq;
      for (const follower of [...(this.#followers.get(topic) ?? [])]) follower.sought(name, offset, seq);
    }
    for (const topic of new Set(heads.map((head) => head.topic))) {
      for (const follower of [...(this.#followers.get(topic) ?? [])]) follower.wake();
    }
    return heads.length === PAGE;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  fail(error: Error): void {
    for (const follower of this.all) follower.fail(error);
  }

  get hasUnsaved(): boolean {
    return [...this.all, ...this.#ending].some(({ unsaved }) => unsaved !== undefined);
  }

  /** Saves how far all are, on a connection that is inside a transaction. */
  saveAll(connection: Connection): void {
    for (const { unsaved } of [...this.all, ...this.#ending]) {
      if (unsaved === undefined) continue;
      const { consumer, topic, offset, seq } = unsaved;
      connection.use(prepareStreamStatements).save.run(consumer, topic, offset, seq);
    }
  }

  /** Lets all finish what they have in hand, until the deadline. */
  async stopAll(deadline: Promise<void>): Promise<void> {
    await Promise.race([Promise.allSettled(this.all.map((follower) => follower.stop())), deadline]);
  }

  endAll(): void {
    for (const follower of this.all) follower.end();
  }
}
