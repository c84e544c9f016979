import { toUnixSeconds } from "../clock.ts";
import type { Context } from "../context.ts";
import { LockLostError } from "../errors.ts";
import type { Connection } from "../sqlite/connection.ts";
import { readWaitOptions, type WaitOptions } from "../wait-options.ts";
import { HeldLocks } from "./held-locks.ts";
import { Leaving } from "./leaving.ts";
import type { LockHost } from "./lock-host.ts";
import { LockLine } from "./lock-line.ts";
import { type LockOptions, type LockTerms, readLockOptions } from "./lock-options.ts";
import { Lock } from "./lock.ts";
import { acquireLock, type Claimant, prepareLockStatements, releaseHandle } from "./statements.ts";

/** A lock that somebody holds. */
export interface LockInfo {
  readonly name: string;
  /** Its label; of other programs what they call themselves. */
  readonly owner: string;
  readonly expiresAt: Date;
  readonly token: number;
}

/** What is behind the label in the owner of a lock of honkbun's. */
const HANDLE = /~([0-9a-f]{16})\.[0-9a-z]+$/;

/** Locks by name, of which one process at a time is the holder. */
export class Locks {
  readonly #context: Context;
  readonly #held: HeldLocks;
  readonly #line: LockLine;
  readonly #leaving: Leaving;
  readonly #host: LockHost;

  /** @internal */
  constructor(context: Context) {
    this.#context = context;
    const { pool, clock, liveness } = context;
    const leaving = new Leaving(context);
    const held = new HeldLocks(context, leaving);
    this.#leaving = leaving;
    this.#held = held;
    this.#line = new LockLine(context, leaving);
    this.#host = {
      pool,
      clock,
      released: (lock) => held.drop(lock),
      renewed: (lock) => held.hold(lock, this.#expiry(lock.claimant)),
      releaseSoon: (lock) => leaving.add(lock.claimant),
    };
    liveness.add({
      retire: (connection, handle) => ({ isDone: releaseHandle(connection, handle), report: () => {} }),
      isHeldBy: (connection, handle) => connection.use(prepareLockStatements).heldBy.get(handle) !== null,
    });
  }

  /** The locks that are held now, by whomever. */
  list(): readonly LockInfo[] {
    const { pool, clock } = this.#context;
    const now = toUnixSeconds(clock());
    return pool
      .read((connection) => connection.use(prepareLockStatements).list.all(now))
      .map(({ name, owner, expires_at, token }) => ({
        name,
        owner: owner.replace(HANDLE, ""),
        expiresAt: new Date(expires_at * 1_000),
        token,
      }));
  }

  /** @internal */
  tryLock(name: string, options: LockOptions | undefined): Lock | null {
    const terms = readLockOptions("tryLock", name, options);
    for (;;) {
      const lock = this.#tryAcquire(name, terms);
      if (lock !== null || !this.#retireBlocker(name)) return lock;
    }
  }

  /** @internal */
  async lock(name: string, options: (LockOptions & WaitOptions) | undefined): Promise<Lock> {
    const { signal, timeout, ...others } = options ?? {};
    const terms = readLockOptions("lock", name, others);
    const wait = readWaitOptions("lock", { signal, timeout });
    const { claimant, token, expiresAt } = await this.#context.seams.wait(() =>
      this.#line.wait(name, terms, wait),
    );
    const lock = new Lock(this.#host, claimant, token);
    this.#held.hold(lock, expiresAt);
    return lock;
  }

  /** @internal */
  async withLock<T>(
    name: string,
    fn: (lock: Lock) => T | Promise<T>,
    options: (LockOptions & WaitOptions) | undefined,
  ): Promise<T> {
    if (typeof fn !== "function") throw new TypeError("withLock: fn must be a function");
    const lock = await this.lock(name, options);
    let result: T;
    try {
      result = await fn(lock);
    } finally {
      if (lock.isHeld) await lock.releaseSoon();
    }
    if (lock.lost !== undefined) {
      throw new LockLostError(`withLock: the lock ${name} was lost before the function had ended`, {
        cause: lock.lost,
      });
    }
    return result;
  }

  /** @internal The clock was moved by hand, and time has passed: renews at once what is to be renewed by now. */
  clockMoved(): void {
    this.#held.clockMoved();
  }

  /** @internal */
  get hasToLeave(): boolean {
    return this.#held.hasToLeave || this.#line.hasToLeave || !this.#leaving.isEmpty;
  }

  /** @internal Frees all that this handle holds, on a connection that is inside a transaction. */
  leave(connection: Connection): void {
    this.#held.leave(connection);
    this.#line.leave(connection);
    this.#leaving.leave(connection);
  }

  /** @internal Frees what is held, and waits for nothing any more; the handle stays open. */
  retire(reason: Error): void {
    this.#line.fail(reason);
    this.#held.retire(reason);
  }

  /** @internal The handle is closed. */
  end(reason: Error): void {
    this.#line.fail(reason);
    this.#held.end(reason);
  }

  #tryAcquire(name: string, { ttl, label }: LockTerms): Lock | null {
    const { pool, clock, liveness } = this.#context;
    const claimant = { name, ttl, owner: liveness.nameHolder(label) };
    const acquire = (connection: Connection): number | null => acquireLock(connection, claimant, clock());
    const token = liveness.isRegistered
      ? pool.write(undefined, acquire)
      : pool.writeAll(undefined, (connection) => {
          const taken = acquire(connection);
          if (taken !== null) liveness.register(connection);
          return taken;
        });
    if (token === null) return null;
    const lock = new Lock(this.#host, claimant, token);
    pool.onEnd({
      committed: () => {
        if (lock.isHeld) this.#held.hold(lock, this.#expiry(claimant));
      },
      rolledBack: () =>
        lock.lose(new LockLostError(`the transaction that took the lock ${name} was rolled back`)),
    });
    return lock;
  }

  /** Frees what a process has left that died: the lock, or its place in line. False when nobody has. */
  #retireBlocker(name: string): boolean {
    const { pool, clock, liveness } = this.#context;
    const owner = pool.read((connection) => {
      const { holder, first } = connection.use(prepareLockStatements);
      const row = holder.get(name);
      return row !== null && row.expires_at > toUnixSeconds(clock()) ? row.owner : first.get(name)?.owner;
    });
    const handle = HANDLE.exec(owner ?? "")?.[1];
    return handle !== undefined && liveness.retireIfDead(handle);
  }

  /** In Unix seconds, of one that is taken or renewed now. */
  #expiry({ ttl }: Claimant): number {
    return Math.ceil(this.#context.clock() / 1_000) + ttl;
  }
}
