// What the benchmarks share. Each prints the figures of every round and their medians, and exits with 0 whatever they
// are. The environment variable BENCH_SCALE scales counts and durations, 0.01 for a quick run; BENCH_ROUNDS says how many rounds;
// BENCH_VERDICTS names a file to which verdicts are added, a line of JSON each.
import { Database } from "bun:sqlite";
import { appendFileSync } from "node:fs";

import { CLAIM_ORDER, CLAIMABLE } from "../../src/sqlite/schema.ts";
import { Process } from "../support/process.ts";

const ROUNDS = Number(Bun.env.BENCH_ROUNDS ?? 5);
const SCALE = Number(Bun.env.BENCH_SCALE ?? 1);

export function scaled(count: number, least = 1): number {
  return Math.max(Math.round(count * SCALE), least);
}

/** The value below which a share (0 to 1) of all values lie. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/**
 * Runs `round` so often, prints what each run found for each subject, under the headings, and the medians at the end.
 * Resolves with a function that looks a median up.
 */
export async function rounds(
  what: string,
  headings: readonly string[],
  round: () => Promise<Readonly<Record<string, readonly number[]>>>,
): Promise<(subject: string, heading: string) => number> {
  print(what, headings);
  const found = new Map<string, (readonly number[])[]>();
  for (let n = 1; n <= ROUNDS; n++) {
    for (const [subject, figures] of Object.entries(await round())) {
      print(`round ${n}  ${subject}`, figures);
      found.set(subject, [...(found.get(subject) ?? []), figures]);
    }
  }
  const medianOf = (subject: string, heading: string): number =>
    median((found.get(subject) ?? []).map((figures) => figures[headings.indexOf(heading)] ?? Number.NaN));
  for (const subject of found.keys()) {
    const medians = headings.map((heading) => medianOf(subject, heading));
    print(`median   ${subject}`, medians);
  }
  return medianOf;
}

function print(label: string, cells: readonly (string | number)[]): void {
  const texts = cells.map((cell) => (typeof cell === "number" ? `${Number(cell.toPrecision(3))}` : cell));
  console.log(label.padEnd(36) + texts.map((text) => text.padStart(16)).join(""));
}

export function verdict(what: string, value: number, rule: "at least" | "at most", target: number): void {
  const met = rule === "at least" ? value >= target : value <= target;
  console.log(`${met ? "met   " : "MISSED"} ${what}: ${value.toPrecision(3)}, target ${rule} ${target}`);
  const path = Bun.env.BENCH_VERDICTS;
  const found: Verdict = { what, value: Number.isFinite(value) ? value : null, rule, target, met };
  if (path !== undefined) appendFileSync(path, `${JSON.stringify(found)}\n`);
}

/** What a benchmark has found, beside what is asked for. */
export interface Verdict {
  readonly what: string;
  /** `null` where the benchmark could not tell, as with sizes that are too small. */
  readonly value: number | null;
  readonly rule: "at least" | "at most";
  readonly target: number;
  readonly met: boolean;
}

/** Epoch milliseconds with a fraction, on one time line for all processes. `process.hrtime` starts at 0 in each. */
export function instant(): number {
  return performance.timeOrigin + performance.now();
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Another process that runs this very script; its first argument tells it which part to play. */
export function spawnRole(role: string, ...args: (string | number)[]): Process {
  return new Process(Bun.main.replace(/\.ts$/, ""), role, ...args);
}

export const payload = (n: number): { to: string; n: number } => ({ to: "alice@example.com", n });

/** What `enqueue` has to do at least, by nothing but `bun:sqlite`, on a file that honkbun has made. */
export class BareQueue implements Disposable {
  readonly #database: Database;
  readonly #insert: ReturnType<Database["prepare"]>;

  /** Without `checkpoints`, which SQLite does now and then in a commit, only `checkpoint` does them. */
  constructor(file: string, options?: { readonly checkpoints: boolean }) {
    this.#database = new Database(file, { create: false, readwrite: true });
    this.#database.run("PRAGMA synchronous = NORMAL");
    if (options?.checkpoints === false) this.#database.run("PRAGMA wal_autocheckpoint = 0");
    this.#database.run("PRAGMA busy_timeout = 5000");
    this.#insert = this.#database.prepare(
      `INSERT INTO _honker_live (queue, payload, priority, run_at, due_ms, max_attempts, created_at, expires_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
    );
  }

  enqueue(payload: unknown): void {
    const now = Date.now();
    const seconds = Math.floor(now / 1_000);
    this.#insert.run("emails", JSON.stringify(payload), 0, seconds, now, 3, seconds, null);
  }

  transaction(fn: () => void): void {
    this.#database.transaction(fn)();
  }

  checkpoint(): void {
    this.#database.run("PRAGMA wal_checkpoint(PASSIVE)");
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** Claims jobs and deletes them by nothing but `bun:sqlite`. */
export class BareWorker implements Disposable {
  readonly #database: Database;
  readonly #claim: ReturnType<Database["prepare"]>;
  readonly #delete: ReturnType<Database["prepare"]>;
  readonly #begin: ReturnType<Database["prepare"]>;
  readonly #commit: ReturnType<Database["prepare"]>;
  #held: readonly number[] = [];

  constructor(file: string, batch: number) {
    this.#database = new Database(file, { create: false, readwrite: true });
    this.#database.run("PRAGMA synchronous = NORMAL");
    this.#database.run("PRAGMA busy_timeout = 5000");
    this.#begin = this.#database.prepare("BEGIN IMMEDIATE");
    this.#commit = this.#database.prepare("COMMIT");
    this.#claim = this.#database.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?1, claim_expires_at = ?2, attempts = attempts + 1
       WHERE id IN (
         SELECT id FROM _honker_live WHERE queue = 'emails' AND ${CLAIMABLE} AND due <= ?3
         ORDER BY priority DESC, ${CLAIM_ORDER} LIMIT ${batch})
       RETURNING id, payload, attempts`,
    );
    this.#delete = this.#database.prepare(
      "DELETE FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1)) AND worker_id = ?2",
    );
  }

  /** Claims and deletes, each in a transaction of its own. */
  run(): number {
    this.#held = this.#claimJobs();
    this.#deleteHeld();
    return this.#held.length;
  }

  /** Deletes what the call before has claimed and claims again, in one transaction. */
  turn(): number {
    this.#begin.run();
    this.#deleteHeld();
    this.#held = this.#claimJobs();
    this.#commit.run();
    return this.#held.length;
  }

  #claimJobs(): number[] {
    const now = Date.now();
    const rows = this.#claim.all("bare", Math.ceil(now / 1_000) + 300, now) as {
      id: number;
      payload: string;
    }[];
    return rows.map((row) => {
      JSON.parse(row.payload);
      return row.id;
    });
  }

  #deleteHeld(): void {
    this.#delete.run(JSON.stringify(this.#held), "bare");
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
