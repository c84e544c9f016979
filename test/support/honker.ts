import { Database } from "bun:sqlite";

/** What honker does to jobs, in plain SQL on a connection of its own, in its order of statements. */
export class Honker implements Disposable {
  readonly #db: Database;
  /** Unix seconds. */
  readonly #now: () => number;

  constructor(path: string, now: () => number = () => Math.floor(Date.now() / 1_000)) {
    this.#db = new Database(path, { create: false, readwrite: true });
    this.#db.run("PRAGMA busy_timeout = 5000");
    this.#now = now;
  }

  enqueue(queue: string, payload: unknown): number {
    const sql = "INSERT INTO _honker_live (queue, payload, run_at, created_at) VALUES (?1, ?2, ?3, ?3)";
    return Number(this.#db.query(sql).run(queue, JSON.stringify(payload), this.#now()).lastInsertRowid);
  }

  /** Ids of up to `count` jobs, which a worker of this name then holds for five minutes. */
  claim(queue: string, worker: string, count = 1): number[] {
    return this.#db
      .query<{ id: number }, [string, string, number, number]>(
        `UPDATE _honker_live SET state = 'processing', worker_id = ?2, claim_expires_at = ?3 + 300, attempts = attempts + 1
         WHERE id IN (
           SELECT id FROM _honker_live
           WHERE queue = ?1 AND attempts < max_attempts AND (expires_at IS NULL OR expires_at > ?3)
             AND ((state = 'pending' AND run_at <= ?3) OR (state = 'processing' AND claim_expires_at < ?3))
           ORDER BY priority DESC, run_at, id LIMIT ?4)
         RETURNING id`,
      )
      .all(queue, worker, this.#now(), count)
      .map(({ id }) => id)
      .sort((a, b) => a - b);
  }

  ack(id: number, worker: string): boolean {
    return (
      this.#db.query("DELETE FROM _honker_live WHERE id = ? AND worker_id = ?").run(id, worker).changes === 1
    );
  }

  retry(id: number, worker: string, delay: number): void {
    this.#db
      .query(
        `UPDATE _honker_live SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, run_at = ?
         WHERE id = ? AND worker_id = ?`,
      )
      .run(this.#now() + delay, id, worker);
  }

  /** The dead letter comes after the job is gone. */
  fail(id: number, worker: string, error: string): void {
    this.#db.transaction(() => {
      const job = this.#db
        .query<Record<string, string | number>, [number, string]>(
          `DELETE FROM _honker_live WHERE id = ? AND worker_id = ?
           RETURNING id, queue, payload, priority, run_at, attempts, max_attempts, created_at`,
        )
        .get(id, worker);
      if (job === null) return;
      this.#db
        .query(
          `INSERT INTO _honker_dead
             (id, queue, payload, priority, run_at, attempts, max_attempts, created_at, last_error, died_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(...Object.values(job), error, this.#now());
    })();
  }

  cancel(id: number): void {
    this.#db.query("DELETE FROM _honker_live WHERE id = ?").run(id);
  }

  lock(name: string, owner: string, ttl: number): boolean {
    this.#db.query("DELETE FROM _honker_locks WHERE name = ? AND expires_at <= ?").run(name, this.#now());
    this.#db
      .query("INSERT OR IGNORE INTO _honker_locks (name, owner, expires_at) VALUES (?, ?, ?)")
      .run(name, owner, this.#now() + ttl);
    const held = this.#db.query("SELECT owner FROM _honker_locks WHERE name = ?").get(name);
    return (held as { owner: string } | null)?.owner === owner;
  }

  unlock(name: string, owner: string): boolean {
    const sql = "DELETE FROM _honker_locks WHERE name = ? AND owner = ?";
    return this.#db.query(sql).run(name, owner).changes === 1;
  }

  tryRateLimit(name: string, limit: number, per: number): boolean {
    const sql = `INSERT INTO _honker_rate_limits (name, window_start, count) VALUES (?1, (?2 / ?3) * ?3, 1)
      ON CONFLICT (name, window_start) DO UPDATE SET count = count + 1 WHERE count < ?4`;
    return this.#db.query(sql).run(name, this.#now(), per, limit).changes === 1;
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
