import { handles } from "../generations.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import { judge, ownIdentity, type ProcessIdentity } from "./process-identity.ts";

/** Milliseconds between two looks whether the others are still there. */
const INTERVAL = 400;

/** Something that handles hold: jobs, locks. */
export interface Holdings {
  /** Frees, in bounded portions, what a handle held whose process is gone. */
  retire(connection: Connection, handle: string, pid: number): Retired;
  isHeldBy(connection: Connection, handle: string): boolean;
}

export interface Retired {
  /** Whether that is all. */
  readonly isDone: boolean;
  /** To be called once it is committed. */
  readonly report: () => void;
}

/**
 * Which honkbun handles hold something, by the processes that they are in. Each that waits for what others hold looks now
 * and then whether their processes are still there, which writes nothing, and frees what the dead have left. While there are
 * no others it does nothing.
 */
export class Liveness implements Feed {
  /** Unique to this handle, in all processes, for ever. */
  readonly handle: string = crypto.randomUUID().replaceAll("-", "").slice(0, 16);
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #report: (error: unknown, where: string) => void;
  readonly #holdings: Holdings[] = [];
  #mayBeRegistered = false;
  #isRegistered = false;
  #isRetiring = false;
  /** Who waits for what others hold. */
  readonly #waiting = new Set<object>();
  #count = 0;
  /** As they were when we read them last; undefined when somebody has committed since. */
  #others: readonly Row[] | undefined;
  #timer: Timer | undefined;

  constructor(pool: Pool, hub: WakeHub, report: (error: unknown, where: string) => void) {
    this.#pool = pool;
    this.#hub = hub;
    this.#report = report;
  }

  add(holdings: Holdings): void {
    this.#holdings.push(holdings);
  }

  /** Names a hold that is made in this transaction: by a label, and by what is unique in all processes, for ever. */
  holder(connection: Connection, label: string | number): string {
    this.register(connection);
    return this.nameHolder(label);
  }

  /** The same for a hold that may come to nothing. Whoever makes it registers. */
  nameHolder(label: string | number): string {
    return `${label}~${this.handle}.${(this.#count++).toString(36)}`;
  }

  /** Whether `register` has nothing to write. */
  get isRegistered(): boolean {
    return this.#isRegistered || this.#pool.path === null || ownIdentity() === null;
  }

  /** To be called in each transaction that lets this handle hold something. */
  register(connection: Connection): void {
    if (this.#isRegistered || this.#pool.path === null) return;
    const own = ownIdentity();
    if (own === null) return; // who cannot be judged by others has its claims expire
    this.#mayBeRegistered = true;
    handles.add(this.handle);
    connection.use(prepareLivenessStatements).register.run(this.handle, own.pid, own.startedAt, own.scope);
    // The transaction may roll back; that it has not is seen later.
    setImmediate(() => {
      if (!this.#pool.isClosed) this.#isRegistered = this.#read("self").length > 0;
    });
  }

  /** Whether `leave` has something to write. */
  get hasToLeave(): boolean {
    return this.#mayBeRegistered;
  }

  /** The handle is closed. What it holds still is freed when its process has ended. */
  leave(connection: Connection): void {
    if (this.#holdings.some((one) => one.isHeldBy(connection, this.handle))) return;
    connection.use(prepareLivenessStatements).remove.run(this.handle);
    handles.delete(this.handle); // it holds nothing, whether or not this commits
  }

  /** Looks soon, and from now on, until all who have started it stop it. In memory there is nobody else. */
  start(waiting: object): void {
    if (this.#pool.path === null || this.#waiting.size > 0) {
      this.#waiting.add(waiting);
      return;
    }
    this.#hub.add(this);
    this.#waiting.add(waiting);
    this.collect();
    setImmediate(() => this.#look());
  }

  stop(waiting: object): void {
    if (this.#waiting.delete(waiting) && this.#waiting.size === 0) this.#halt();
  }

  #halt(): void {
    this.#hub.remove(this);
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  get followsLoops(): boolean {
    return false;
  }

  /** Somebody may have come, or gone. */
  collect(): boolean {
    this.#others = undefined;
    this.#timer ??= setInterval(() => this.#look(), INTERVAL).unref();
    return false;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  fail(): void {
    this.#waiting.clear();
    this.#halt();
  }

  #look(): void {
    if (this.#waiting.size === 0 || this.#isRetiring || this.#pool.isClosed) return;
    try {
      this.#others ??= this.#read("others");
      if (this.#others.length === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
        return;
      }
      const judged = new Map<string, boolean>(); // a process may have many handles
      const dead = this.#others.filter(({ handle, pid, started_at: startedAt, scope }) => {
        const key = `${pid} ${startedAt} ${scope}`;
        const isDead = judged.get(key) ?? judge({ pid, startedAt, scope }) === "dead";
        judged.set(key, isDead);
        return isDead || isOfFormerProgram({ handle, pid, startedAt, scope });
      });
      if (dead.length > 0) void this.#retire(dead);
    } catch (error) {
      this.#report(error, "liveness"); // the next look tries again
    }
  }

  /** Frees at once what a handle has left whose process has died. False when that is not known of it. */
  retireIfDead(handle: string): boolean {
    const found = this.#pool.readCommitted((connection) =>
      connection.use(prepareLivenessStatements).self.get(handle),
    );
    if (found === null) return false;
    const { pid, started_at: startedAt, scope } = found;
    const isDead = judge({ pid, startedAt, scope }) === "dead";
    if (!isDead && !isOfFormerProgram({ handle, pid, startedAt, scope })) return false;
    for (let isDone = false; !isDone;) {
      const retired = this.#pool.writeAll(undefined, (connection) => this.#retireOn(connection, found));
      this.#pool.onEnd({ committed: retired.report });
      isDone = retired.isDone;
    }
    return true;
  }

  async #retire(dead: readonly Row[]): Promise<void> {
    this.#isRetiring = true;
    try {
      for (const row of dead) {
        for (let isDone = false; !isDone;) {
          const retired = await this.#pool.loops.write((connection) => this.#retireOn(connection, row));
          retired.report();
          isDone = retired.isDone;
        }
      }
    } catch (error) {
      if (!this.#pool.isClosed) this.#report(error, "liveness");
    } finally {
      this.#isRetiring = false;
      this.#others = undefined;
    }
  }

  #retireOn(connection: Connection, { handle, pid }: Row): Retired {
    const all = this.#holdings.map((one) => one.retire(connection, handle, pid));
    const isDone = all.every((one) => one.isDone);
    if (isDone) connection.use(prepareLivenessStatements).remove.run(handle);
    return { isDone, report: () => all.forEach(({ report }) => void report()) };
  }

  #read(which: "self" | "others"): Row[] {
    return this.#pool.readCommitted((connection) =>
      connection.use(prepareLivenessStatements)[which].all(this.handle),
    );
  }
}

/** Whether a handle is this very thread's, but of a program that ran in it before this one. */
function isOfFormerProgram({ handle, ...holder }: ProcessIdentity & { readonly handle: string }): boolean {
  const own = ownIdentity();
  return (
    own?.pid === holder.pid &&
    own.startedAt === holder.startedAt &&
    own.scope === holder.scope &&
    !handles.has(handle)
  );
}

interface Row {
  readonly handle: string;
  readonly pid: number;
  readonly started_at: string;
  readonly scope: string;
}

interface LivenessStatements {
  /** handle, pid, when it was started, scope. */
  readonly register: Statement<never, [string, number, string, string]>;
  readonly self: Statement<Row, [string]>;
  readonly others: Statement<Row, [string]>;
  readonly remove: Statement<never, [string]>;
}

function prepareLivenessStatements(connection: Connection): LivenessStatements {
  const columns = "handle, pid, started_at, scope";
  return {
    register: connection.prepare(
      `INSERT OR IGNORE INTO _honkbun_handles (${columns}) VALUES (?1, ?2, ?3, ?4)`,
    ),
    self: connection.prepare(`SELECT ${columns} FROM _honkbun_handles WHERE handle = ?1`),
    others: connection.prepare(`SELECT ${columns} FROM _honkbun_handles WHERE handle <> ?1`),
    remove: connection.prepare("DELETE FROM _honkbun_handles WHERE handle = ?1"),
  };
}
