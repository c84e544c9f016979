import type { Clock } from "../clock.ts";
import { JobCancelledError } from "../errors.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import { Job } from "./job.ts";

/** Renewals that failed for want of a disk, say, are tried again after so long. */
const PAUSE_AFTER_ERROR = 1_000;
/** Cancellations that are read in one turn at most. */
const PORTION = 1_000;

/** What holds jobs. */
interface Holder {
  readonly held: readonly Job<unknown>[];
}

/** Looks after the jobs that loops hold: renews their claims, and aborts those that were cancelled. */
export class ClaimKeeper implements Feed {
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #report: (error: unknown, where: string) => void;
  #holders: ReadonlySet<Holder> = new Set();
  /** None is to be renewed before; those of jobs that have been settled since are counted. */
  #next = Number.POSITIVE_INFINITY;
  /** Cancellations up to this number were seen. */
  #seen = 0;

  constructor(pool: Pool, hub: WakeHub, clock: Clock, report: (error: unknown, where: string) => void) {
    this.#pool = pool;
    this.#hub = hub;
    this.#clock = clock;
    this.#report = report;
  }

  /** To be called before any job is claimed that is to be held: of what was cancelled before, none can be. */
  attach(holders: ReadonlySet<Holder>): void {
    this.#holders = holders;
    this.#hub.add(this);
    this.#seen = this.#lastCancelled();
    // In memory that counts what the open transaction has cancelled, and may yet take back.
    this.#pool.onEnd({
      rolledBack: () => {
        if (!this.#pool.isClosed) this.#seen = Math.min(this.#seen, this.#lastCancelled());
      },
    });
  }

  detach(): void {
    this.#hub.remove(this);
  }

  /** The jobs that loops hold, or have just let go of. */
  get held(): readonly Job<unknown>[] {
    return [...this.#holders].flatMap(({ held }) => held);
  }

  /** From now on the claims on these are renewed, as long as one of the loops holds them. */
  hold(jobs: readonly Job<unknown>[]): void {
    const now = this.#clock();
    let first = Number.POSITIVE_INFINITY;
    for (const job of jobs) {
      const renewal = now + job.lease.claim.visibilityTimeout / 3;
      job.lease.renewAt = renewal;
      first = Math.min(first, renewal);
    }
    if (jobs.length === 0) return;
    this.#next = Math.min(this.#next, first);
    this.#hub.deadlineAt(first);
  }

  get followsLoops(): boolean {
    return false;
  }

  readonly isUpkeep = true;

  /**
   * To be called before a loop claims in this or a later turn: a claim frees what has expired, and after a sleep of the machine that
   * may be what runs here. What is to be renewed by now is renewed before.
   */
  renewOverdue(): void {
    const now = this.#clock();
    if (now < this.#next) return;
    if (this.#first() <= now) void this.#renew(this.#dueBy(now), now);
    this.#next = this.#first();
  }

  /** The clock was moved by hand: renews at once what is to be renewed by now. Where that fails it is tried again as ever. */
  clockMoved(): void {
    const now = this.#clock();
    if (this.#first() > now) return;
    const due = this.#dueBy(now);
    let lost: readonly Job<unknown>[];
    try {
      lost = this.#pool.writeAll(undefined, (connection) => this.#renewOn(connection, due));
    } catch {
      return;
    }
    this.#renewed(due, now);
    this.#next = this.#first();
    for (const job of lost) job.lease.lose(job.lease.lostError("renewal"));
  }

  collect(): boolean {
    this.renewOverdue();
    return this.#collectCancelled();
  }

  deadline(): number {
    return this.#next;
  }

  fail(): void {} // who holds is a loop, and told as such

  #lastCancelled(): number {
    return this.#pool.readCommitted(
      (connection) => connection.use(prepareKeeperStatements).lastCancelled.get()?.seq ?? 0,
    );
  }

  #collectCancelled(): boolean {
    const rows = this.#pool.readCommitted((connection) =>
      connection.use(prepareKeeperStatements).cancelledSince.all(this.#seen, PORTION),
    );
    const last = rows.at(-1);
    if (last === undefined) return false;
    this.#seen = last.seq;
    const ids = new Set(rows.map(({ id }) => id));
    for (const job of this.held) {
      if (ids.has(job.id))
        job.lease.lose(new JobCancelledError(`job ${job.id} of ${job.queue} was cancelled`));
    }
    return rows.length === PORTION;
  }

  #first(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { lease } of this.held) first = Math.min(first, lease.renewAt);
    return first;
  }

  /** Those due now, and all that will be soon: one transaction serves jobs that were claimed one by one. */
  #dueBy(now: number): Job<unknown>[] {
    return this.held.filter(({ lease }) => lease.renewAt <= now + lease.claim.visibilityTimeout / 6);
  }

  async #renew(jobs: readonly Job<unknown>[], now: number): Promise<void> {
    this.#renewed(jobs, now);
    try {
      const lost = await this.#pool.loops.write((connection) => this.#renewOn(connection, jobs));
      for (const job of lost) job.lease.lose(job.lease.lostError("renewal"));
    } catch (error) {
      if (this.#pool.isClosed) return;
      this.#report(error, "renewal of claims");
      const again = now + PAUSE_AFTER_ERROR;
      for (const { lease } of jobs) {
        if (lease.renewAt !== Number.POSITIVE_INFINITY) lease.renewAt = Math.min(lease.renewAt, again);
      }
      this.#next = Math.min(this.#next, again);
      this.#hub.deadlineAt(again);
    }
  }

  #renewed(jobs: readonly Job<unknown>[], now: number): void {
    for (const { lease } of jobs) lease.renewAt = now + lease.claim.visibilityTimeout / 3;
  }

  /** Returns those whose claims are lost. */
  #renewOn(connection: Connection, jobs: readonly Job<unknown>[]): Job<unknown>[] {
    const unsettled = jobs.filter((job) => !job.settled);
    return Job.renewOn(connection, unsettled, this.#clock());
  }
}

interface KeeperStatements {
  readonly lastCancelled: Statement<{ seq: number | null }, []>;
  /** In order, after a number, at most so many. */
  readonly cancelledSince: Statement<{ seq: number; id: number }, [number, number]>;
}

function prepareKeeperStatements(connection: Connection): KeeperStatements {
  return {
    lastCancelled: connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = '_honkbun_cancelled'"),
    cancelledSince: connection.prepare(
      "SELECT seq, id FROM _honkbun_cancelled WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    ),
  };
}
