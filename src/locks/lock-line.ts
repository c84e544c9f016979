import { toUnixSeconds } from "../clock.ts";
import type { Context } from "../context.ts";
import { WaitTimeoutError } from "../errors.ts";
import { onAbort } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Feed } from "../wake/hub.ts";
import type { Leaving } from "./leaving.ts";
import type { LockTerms } from "./lock-options.ts";
import {
  acquireLock,
  type Claimant,
  giveUp,
  handOn,
  isInLine,
  type LockRow,
  prepareLockStatements,
  standInLine,
} from "./statements.ts";

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Somebody of this handle who waits for a lock. */
interface Waiter {
  readonly claimant: Claimant;
  readonly granted: (row: LockRow) => void;
  readonly failed: (error: unknown) => void;
}

/** A lock that was waited for. */
export interface Granted {
  readonly claimant: Claimant;
  readonly token: number;
  /** Unix seconds. */
  readonly expiresAt: number;
}

/**
 * Waits for locks. All who wait, in whatever process, stand in one line for each lock; whoever frees it hands it to the first of
 * them, in the same transaction. Nobody is passed over, and nobody asks again and again.
 */
export class LockLine implements Feed {
  readonly #context: Context;
  /** In the order in which they stand in line. */
  readonly #waiting = new Map<string, Waiter[]>();
  readonly #leaving: Leaving;
  /** Those who wait, and those who are about to. */
  #count = 0;
  #isServing = false;
  #deadline = Number.POSITIVE_INFINITY;

  constructor(context: Context, leaving: Leaving) {
    this.#context = context;
    this.#leaving = leaving;
  }

  /**
   * Resolves when the lock is held.
   * @throws WaitTimeoutError, ClosedError, FileReplacedError, the signal's reason
   */
  async wait(
    name: string,
    { ttl, label }: LockTerms,
    { signal, timeout }: { readonly signal: AbortSignal | undefined; readonly timeout: number | undefined },
  ): Promise<Granted> {
    signal?.throwIfAborted();
    const { pool, clock, alarms, liveness } = this.#context;
    const outcome = Promise.withResolvers<Granted>();
    let isOver = false;
    this.#attach();
    const offAbort = onAbort(signal, () => outcome.reject(signal?.reason));
    if (timeout !== undefined) {
      alarms.set(outcome, timeout, () =>
        outcome.reject(
          new WaitTimeoutError(`lock: the lock ${name} was not free within ${timeout} ms (timeout)`),
        ),
      );
    }
    let waiter: Waiter | undefined;
    const entered = pool.loops.write((connection) => {
      const claimant = { name, ttl, owner: liveness.holder(connection, label) };
      const token = acquireLock(connection, claimant, clock());
      if (token === null) standInLine(connection, claimant);
      return { claimant, token };
    });
    entered.then(({ claimant, token }) => {
      const granted = (row: LockRow): void =>
        outcome.resolve({ claimant, token: row.token, expiresAt: row.expires_at });
      if (isOver) void this.#leaving.add(claimant);
      else if (token !== null) granted({ ...claimant, token, expires_at: Math.ceil(clock() / 1_000) + ttl });
      else {
        waiter = { claimant, granted, failed: outcome.reject };
        const line = this.#waiting.get(name) ?? [];
        this.#waiting.set(name, line);
        line.push(waiter); // the commit of this has us look
      }
    }, outcome.reject);
    try {
      return await outcome.promise;
    } catch (error) {
      isOver = true;
      if (waiter !== undefined) void this.#leaving.add(waiter.claimant);
      throw error;
    } finally {
      offAbort();
      alarms.clear(outcome);
      if (waiter !== undefined) this.#remove(waiter);
      this.#detach();
    }
  }

  get hasToLeave(): boolean {
    return this.#count > 0;
  }

  /** Lets all leave, on a connection that is inside a transaction. */
  leave(connection: Connection): void {
    const now = this.#context.clock();
    for (const { claimant } of this.#all) giveUp(connection, claimant, now);
  }

  get followsLoops(): boolean {
    return true;
  }

  collect(): boolean {
    const { pool, clock } = this.#context;
    const now = toUnixSeconds(clock());
    this.#deadline = Number.POSITIVE_INFINITY;
    const granted: (() => void)[] = [];
    const toServe: string[] = [];
    pool.readCommitted((connection) => {
      for (const [name, line] of this.#waiting) {
        const row = connection.use(prepareLockStatements).holder.get(name);
        const waiter = line.find(({ claimant }) => claimant.owner === row?.owner);
        if (row !== null && waiter !== undefined) granted.push(() => waiter.granted(row));
        else if (row === null || row.expires_at <= now || !isInLine(connection, head(line))) {
          toServe.push(name);
        } else if (row.expires_at * 1_000 < this.#deadline) this.#deadline = row.expires_at * 1_000; // false for NaN
      }
    });
    for (const grant of granted) grant();
    if (toServe.length > 0) void this.#serve(toServe);
    return false;
  }

  deadline(): number {
    return this.#deadline;
  }

  fail(error: Error): void {
    for (const { failed } of this.#all) failed(error);
  }

  get #all(): readonly Waiter[] {
    return [...this.#waiting.values()].flat();
  }

  /** @throws FileReplacedError, ClosedError */
  #attach(): void {
    if (this.#count === 0) {
      this.#context.hub.add(this);
      this.#context.liveness.start(this);
    }
    this.#count++;
  }

  #detach(): void {
    if (--this.#count > 0) return;
    this.#context.liveness.stop(this);
    this.#context.hub.remove(this);
  }

  #remove(waiter: Waiter): void {
    const { name } = waiter.claimant;
    const line = (this.#waiting.get(name) ?? []).filter((one) => one !== waiter);
    if (line.length > 0) this.#waiting.set(name, line);
    else this.#waiting.delete(name);
  }

  /** Hands on locks that nobody has handed on: they have expired, or their holder has died, or is no honkbun. */
  async #serve(names: readonly string[]): Promise<void> {
    if (this.#isServing) return;
    this.#isServing = true;
    const { pool, clock, report } = this.#context;
    try {
      await pool.loops.write((connection) => {
        for (const name of names) {
          const line = this.#waiting.get(name);
          if (line === undefined) continue;
          const claimant = head(line);
          const row = connection.use(prepareLockStatements).holder.get(name);
          // It was its turn while this process slept, and that time is over.
          if (row?.owner !== claimant.owner && !isInLine(connection, claimant)) {
            standInLine(connection, claimant);
          }
          handOn(connection, name, clock());
        }
      });
    } catch (error) {
      if (!pool.isClosed) report(error, "waiting for locks");
      await Bun.sleep(PAUSE_AFTER_ERROR);
    }
    this.#isServing = false;
    if (this.#count > 0 && !pool.isClosed) this.#context.hub.collectSoon();
  }
}

/** Of those who wait in this handle, the first in line. No line is empty. */
function head(line: readonly Waiter[]): Claimant {
  return (line[0] as Waiter).claimant;
}
