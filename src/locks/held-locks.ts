import type { Context } from "../context.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Feed } from "../wake/hub.ts";
import type { Leaving } from "./leaving.ts";
import type { Lock } from "./lock.ts";
import { giveUp, prepareLockStatements, renewLock } from "./statements.ts";

/** Renewals that failed for want of a disk, say, are tried again after so long. */
const PAUSE_AFTER_ERROR = 1_000;
/** Milliseconds for which commits are followed though no lock is held any more: another one may be soon. */
const LINGER = 1_000;

/** Looks after the locks that this handle holds: renews them, and aborts those that were lost. */
export class HeldLocks implements Feed {
  readonly #context: Context;
  /** When each is to be renewed. */
  readonly #held = new Map<Lock, number>();
  readonly #leaving: Leaving;
  #isAttached = false;
  #next: NodeJS.Immediate | undefined;
  #linger: Timer | undefined;
  /** The fencing token that was given last when we looked last. */
  #token = 0;

  constructor(context: Context, leaving: Leaving) {
    this.#context = context;
    this.#leaving = leaving;
  }

  /** The lock holds until `expiresAt`, in Unix seconds. */
  hold(lock: Lock, expiresAt: number): void {
    const third = (lock.claimant.ttl * 1_000) / 3;
    const renewal = Math.min(this.#context.clock() + third, expiresAt * 1_000 - 2 * third);
    this.#held.set(lock, renewal);
    // A lock that is released before the event loop goes on needs no care.
    if (!this.#isAttached) this.#next ??= setImmediate(() => this.#attach());
    else this.#context.hub.deadlineAt(renewal);
  }

  drop(lock: Lock): void {
    if (!this.#held.delete(lock) || this.#held.size > 0 || !this.#isAttached) return;
    this.#linger ??= setTimeout(() => {
      this.#linger = undefined;
      if (this.#held.size === 0) this.#detach();
    }, LINGER).unref();
  }

  get hasToLeave(): boolean {
    return this.#held.size > 0;
  }

  /** Frees all, on a connection that is inside a transaction. */
  leave(connection: Connection): void {
    const now = this.#context.clock();
    for (const { claimant } of this.#held.keys()) giveUp(connection, claimant, now);
  }

  /** Takes all away from their holders. */
  retire(reason: Error): void {
    for (const lock of [...this.#held.keys()]) {
      lock.lose(reason);
      void this.#leaving.add(lock.claimant);
    }
  }

  /** The handle is closed. */
  end(reason: Error): void {
    for (const lock of [...this.#held.keys()]) lock.lose(reason);
    clearImmediate(this.#next);
    this.#detach();
  }

  /** A process that only holds locks may end. */
  get keepsAlive(): boolean {
    return false;
  }

  readonly isUpkeep = true;

  get followsLoops(): boolean {
    return true;
  }

  collect(): boolean {
    if (this.#held.size === 0) return false;
    const now = this.#context.clock();
    if (this.deadline() <= now) void this.#renew(now);
    this.#collectLost();
    return false;
  }

  /** The clock was moved by hand: renews at once what is to be renewed by now. Where that fails it is tried again as ever. */
  clockMoved(): void {
    const { pool, clock } = this.#context;
    const now = clock();
    if (this.deadline() > now) return;
    const due = this.#dueBy(now);
    let lost: readonly Lock[];
    try {
      lost = pool.writeAll(undefined, (connection) => this.#renewOn(connection, due));
    } catch {
      return;
    }
    this.#renewed(due, now);
    for (const lock of lost) lock.lose(lock.lostError("renewal"));
  }

  deadline(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const renewal of this.#held.values()) first = Math.min(first, renewal);
    return first;
  }

  fail(error: Error): void {
    this.#isAttached = false;
    for (const lock of [...this.#held.keys()]) lock.lose(error);
  }

  #attach(): void {
    this.#next = undefined;
    if (this.#held.size === 0 || this.#isAttached) return;
    try {
      this.#context.hub.add(this);
      this.#isAttached = true;
      this.#collectLost();
    } catch (error) {
      this.fail(error as Error); // the file was replaced, or the handle closed
    }
  }

  #detach(): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    if (!this.#isAttached) return;
    this.#isAttached = false;
    this.#context.hub.remove(this);
  }

  /** Only a lock that somebody took is another's. */
  #collectLost(): void {
    const lost = this.#context.pool.readCommitted((connection) => {
      const { lastToken, holder } = connection.use(prepareLockStatements);
      const token = lastToken.get()?.last ?? 0;
      if (token === this.#token) return [];
      this.#token = token;
      return [...this.#held.keys()].filter((lock) => holder.get(lock.name)?.owner !== lock.claimant.owner);
    });
    for (const lock of lost) lock.lose(lock.lostError("lock"));
  }

  async #renew(now: number): Promise<void> {
    const { pool, report, hub } = this.#context;
    const due = this.#dueBy(now);
    this.#renewed(due, now);
    try {
      const lost = await pool.loops.write((connection) => this.#renewOn(connection, due));
      for (const lock of lost) lock.lose(lock.lostError("renewal"));
    } catch (error) {
      if (pool.isClosed) return;
      report(error, "renewal of locks");
      const again = now + PAUSE_AFTER_ERROR;
      for (const lock of due) if (this.#held.has(lock)) this.#held.set(lock, again);
      hub.deadlineAt(again);
    }
  }

  /** Those due now, and all that will be soon: one transaction serves locks that were taken one by one. */
  #dueBy(now: number): Lock[] {
    const due: Lock[] = [];
    for (const [lock, renewal] of this.#held) {
      if (renewal <= now + (lock.claimant.ttl * 1_000) / 6) due.push(lock);
    }
    return due;
  }

  #renewed(locks: readonly Lock[], now: number): void {
    for (const lock of locks) this.#held.set(lock, now + (lock.claimant.ttl * 1_000) / 3);
  }

  /** Returns those that are lost. */
  #renewOn(connection: Connection, locks: readonly Lock[]): Lock[] {
    const now = this.#context.clock();
    return locks.filter((lock) => lock.isHeld && !renewLock(connection, lock.claimant, now));
  }
}
