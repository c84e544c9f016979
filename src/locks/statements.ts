import { toUnixSeconds } from "../clock.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";

/** A lock that somebody wants, or holds. */
export interface Claimant {
  readonly name: string;
  /** Unique to this acquisition. */
  readonly owner: string;
  /** For how long it holds unless it is renewed, in seconds. */
  readonly ttl: number;
}

export interface LockRow {
  readonly name: string;
  readonly owner: string;
  /** Unix seconds. From then on anybody may take it. */
  readonly expires_at: number;
  readonly token: number;
}

/** Takes the lock if it is free and nobody waits for it. Null if not; else the fencing token. */
export function acquireLock(connection: Connection, claimant: Claimant, now: number): number | null {
  const { name, owner } = claimant;
  const { acquire } = connection.use(prepareLockStatements);
  return acquire.get(name, owner, expiry(claimant, now), toUnixSeconds(now))?.token ?? null;
}

/** Stands in line, in a transaction. */
export function standInLine(connection: Connection, { name, owner, ttl }: Claimant): void {
  connection.use(prepareLockStatements).standInLine.run(name, owner, ttl);
}

export function isInLine(connection: Connection, { owner }: Claimant): boolean {
  return connection.use(prepareLockStatements).inLine.get(owner) !== null;
}

/** Hands the lock, if it is free, to the first who waits for it. In a transaction. */
export function handOn(connection: Connection, name: string, now: number): void {
  const { first, take, leaveLine } = connection.use(prepareLockStatements);
  const next = first.get(name);
  if (next === null) return;
  const taken = take.get(name, next.owner, expiry(next, now), toUnixSeconds(now));
  if (taken !== null) leaveLine.run(next.owner);
}

/** Frees the lock by one statement. False when somebody waits for it, or when it is not this one's. */
export function tryRelease(connection: Connection, { name, owner }: Claimant): boolean {
  return connection.use(prepareLockStatements).releaseUnwanted.run(name, owner).changes > 0;
}

/** Leaves the line, and gives up the lock, which goes to the next. In a transaction. */
export function giveUp(connection: Connection, { name, owner }: Claimant, now: number): void {
  const { leaveLine, release } = connection.use(prepareLockStatements);
  leaveLine.run(owner);
  if (release.run(name, owner).changes > 0) handOn(connection, name, now);
}

/** False when the lock is somebody else's by now. One that has expired, and that nobody has taken, is renewed. */
export function renewLock(connection: Connection, claimant: Claimant, now: number): boolean {
  const { name, owner } = claimant;
  return connection.use(prepareLockStatements).renew.run(name, owner, expiry(claimant, now)).changes > 0;
}

/** Gives up all that a handle holds and waits for. True when that is all of it. */
export function releaseHandle(connection: Connection, handle: string): boolean {
  const { heldBy, freeHeldBy, freeWaitedBy } = connection.use(prepareLockStatements);
  freeHeldBy.run(handle);
  freeWaitedBy.run(handle);
  return heldBy.get(handle) === null;
}

function expiry({ ttl }: { readonly ttl: number }, now: number): number {
  return Math.ceil(now / 1_000) + ttl;
}

interface LockStatements {
  /** name, owner, expiry, now in seconds. */
  readonly acquire: Statement<{ token: number }, [string, string, number, number]>;
  /** The same whoever waits. */
  readonly take: Statement<{ token: number }, [string, string, number, number]>;
  readonly holder: Statement<LockRow, [string]>;
  /** name, owner, expiry. */
  readonly renew: Statement<never, [string, string, number]>;
  readonly releaseUnwanted: Statement<never, [string, string]>;
  readonly release: Statement<never, [string, string]>;
  /** name, owner, ttl in seconds. */
  readonly standInLine: Statement<never, [string, string, number]>;
  readonly inLine: Statement<{ n: number }, [string]>;
  readonly leaveLine: Statement<never, [string]>;
  readonly first: Statement<Claimant, [string]>;
  /** Those that hold at a time in seconds. */
  readonly list: Statement<LockRow, [number]>;
  /** Moves whenever a lock is taken, by whomever. */
  readonly lastToken: Statement<{ last: number }, []>;
  readonly heldBy: Statement<{ n: number }, [string]>;
  readonly freeHeldBy: Statement<never, [string]>;
  readonly freeWaitedBy: Statement<never, [string]>;
}

/** So many rows are freed in one go at most. */
const PORTION = 500;

export function prepareLockStatements(connection: Connection): LockStatements {
  const taken = (condition: string): string =>
    `INSERT INTO _honker_locks (name, owner, expires_at, token)
     SELECT ?1, ?2, ?3, last + 1 FROM _honkbun_lock_tokens WHERE ${condition}
     ON CONFLICT (name) DO UPDATE
       SET owner = excluded.owner, expires_at = excluded.expires_at, token = excluded.token
       WHERE expires_at <= ?4
     RETURNING token`;
  const isOfHandle = "owner GLOB '*~' || ?1 || '.*'";
  const free = (table: string): string =>
    `DELETE FROM ${table} WHERE rowid IN (SELECT rowid FROM ${table} WHERE ${isOfHandle} LIMIT ${PORTION})`;
  return {
    acquire: connection.prepare(taken("NOT EXISTS (SELECT 1 FROM _honkbun_lock_waiters WHERE name = ?1)")),
    take: connection.prepare(taken("true")),
    holder: connection.prepare("SELECT name, owner, expires_at, token FROM _honker_locks WHERE name = ?1"),
    renew: connection.prepare("UPDATE _honker_locks SET expires_at = ?3 WHERE name = ?1 AND owner = ?2"),
    releaseUnwanted: connection.prepare(
      `DELETE FROM _honker_locks WHERE name = ?1 AND owner = ?2
         AND NOT EXISTS (SELECT 1 FROM _honkbun_lock_waiters WHERE name = ?1)`,
    ),
    release: connection.prepare("DELETE FROM _honker_locks WHERE name = ?1 AND owner = ?2"),
    standInLine: connection.prepare(
      "INSERT INTO _honkbun_lock_waiters (name, owner, ttl) VALUES (?1, ?2, ?3)",
    ),
    inLine: connection.prepare("SELECT 1 AS n FROM _honkbun_lock_waiters WHERE owner = ?1"),
    leaveLine: connection.prepare("DELETE FROM _honkbun_lock_waiters WHERE owner = ?1"),
    first: connection.prepare(
      "SELECT name, owner, ttl FROM _honkbun_lock_waiters WHERE name = ?1 ORDER BY seq LIMIT 1",
    ),
    list: connection.prepare(
      "SELECT name, CAST(owner AS TEXT) AS owner, expires_at, token FROM _honker_locks WHERE expires_at > ?1 ORDER BY name",
    ),
    lastToken: connection.prepare("SELECT last FROM _honkbun_lock_tokens"),
    heldBy: connection.prepare(
      `SELECT 1 AS n FROM _honker_locks WHERE ${isOfHandle}
       UNION ALL SELECT 1 FROM _honkbun_lock_waiters WHERE ${isOfHandle} LIMIT 1`,
    ),
    freeHeldBy: connection.prepare(free("_honker_locks")),
    freeWaitedBy: connection.prepare(free("_honkbun_lock_waiters")),
  };
}
