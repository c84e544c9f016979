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
    const sql = "DELETE FROM _honker_live WHERE id = ? AND worker_id = ? AND claim_expires_at >= ?";
    return this.#db.query(sql).run(id, worker, this.#now()).changes === 1;
  }

  /** Makes the job due again, or buries it when that was its last attempt. */
  retry(id: number, worker: string, delay: number): void {
    const again = this.#db
      .query(
        `UPDATE _honker_live SET state = 'pending', worker_id = NULL, claim_expires_at = NULL, run_at = ?
         WHERE id = ? AND worker_id = ? AND attempts < max_attempts`,
      )
      .run(this.#now() + delay, id, worker);
    if (again.changes === 0) this.fail(id, worker, "failed for the last time");
  }

  fail(id: number, worker: string, error: string): void {
    this.#bury("id = ?1 AND worker_id = ?2", [id, worker], error);
  }

  cancel(id: number): boolean {
    return this.#db.query("DELETE FROM _honker_live WHERE id = ?").run(id).changes === 1;
  }

  heartbeat(id: number, worker: string): boolean {
    const sql = "UPDATE _honker_live SET claim_expires_at = ? WHERE id = ? AND worker_id = ?";
    return this.#db.query(sql).run(this.#now() + 300, id, worker).changes === 1;
  }

  /** Buries what has expired, and what is out of attempts and nobody holds. */
  sweep(queue: string): void {
    const now = this.#now();
    this.#bury("queue = ?1 AND state = 'pending' AND expires_at <= ?2", [queue, now], "expired");
    this.#bury(
      `queue = ?1 AND attempts >= max_attempts
         AND (state = 'pending' OR (state = 'processing' AND claim_expires_at < ?2))`,
      [queue, now],
      "max attempts exceeded",
    );
  }

  schedule(name: string, queue: string, every: number): void {
    const sql = `INSERT INTO _honker_scheduler_tasks (name, queue, cron_expr, payload, next_fire_at) VALUES (?, ?, ?, '"tick"', ?)`;
    this.#db.query(sql).run(name, queue, `@every ${every}s`, this.#now() + every);
  }

  /** Fires schedules that are due, of which it reads `@every` alone. */
  tick(): void {
    this.#db.transaction(() => {
      const due = this.#db
        .query<
          { name: string; queue: string; cron_expr: string; payload: string; next_fire_at: number },
          [number]
        >("SELECT * FROM _honker_scheduler_tasks WHERE enabled = 1 AND next_fire_at <= ?")
        .all(this.#now());
      for (const { name, queue, cron_expr, payload, next_fire_at } of due) {
        const every = Number(/^@every (\d+)s$/.exec(cron_expr)?.[1]);
        for (let next = next_fire_at; ; next += every) {
          if (next > this.#now()) {
            this.#db
              .query("UPDATE _honker_scheduler_tasks SET next_fire_at = ? WHERE name = ?")
              .run(next, name);
            break;
          }
          this.enqueue(queue, JSON.parse(payload));
        }
      }
    })();
  }

  /** The dead letter comes after the job is gone. */
  #bury(condition: string, parameters: readonly (string | number)[], error: string): void {
    this.#db.transaction(() => {
      const jobs = this.#db
        .query<Record<string, string | number>, (string | number)[]>(
          `DELETE FROM _honker_live WHERE ${condition}
           RETURNING id, queue, payload, priority, run_at, attempts, max_attempts, created_at`,
        )
        .all(...parameters);
      for (const job of jobs) {
        this.#db
          .query(
            `INSERT INTO _honker_dead
               (id, queue, payload, priority, run_at, attempts, max_attempts, created_at, last_error, died_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          )
          .run(...Object.values(job), error, this.#now());
      }
    })();
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
