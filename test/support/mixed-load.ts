import { Database } from "bun:sqlite";
import { expect } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually } from "./eventually.ts";
import { Folder } from "./folder.ts";
import { Process } from "./process.ts";
import type { Done } from "./programs/mixed.ts";
import { assertIntegrity } from "./workload.ts";

const EVENTS = "SELECT count(*) FROM _honker_stream WHERE topic = 'events'";

interface Member {
  readonly process: Process;
  /** Resolves with what it said that is no id, once it has ended. */
  readonly reading: Promise<void>;
}

/** Processes that do a bit of everything on one file, and an audit of what has come of it. */
export class MixedLoad implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #path: string;
  readonly #members: Member[];
  readonly #stored = new Set<number>();
  readonly #failures: unknown[] = [];
  #counts: Done[] = [];
  #finishing = 0;
  #kills = 0;

  constructor(processes: number) {
    this.#path = this.#stack.use(new Folder()).file();
    {
      using db = open(this.#path);
      db.sqlite.run("CREATE TABLE effects (job INTEGER, attempt INTEGER)");
      db.sqlite.run("CREATE TABLE ticks (at INTEGER)");
      db.sqlite.run("CREATE TABLE deliveries (offset INTEGER)");
      db.sqlite.run("CREATE TABLE projection (events INTEGER, total INTEGER)");
      db.sqlite.run("INSERT INTO projection VALUES (0, 0)");
      db.sqlite.run("CREATE TABLE counter (value INTEGER)");
      db.sqlite.run("INSERT INTO counter VALUES (0)");
      db.sqlite.run("CREATE TABLE increments (id INTEGER PRIMARY KEY)");
      db.sqlite.run("CREATE TABLE seizures (worker TEXT)");
      db.sqlite.run(`CREATE TRIGGER claimed_twice AFTER UPDATE OF worker_id ON _honker_live
        WHEN old.state = 'processing' AND new.state = 'processing' BEGIN INSERT INTO seizures VALUES (old.worker_id); END`);
    }
    this.#members = Array.from({ length: processes }, () => this.#start());
  }

  /** Kills one of the processes, and starts another. */
  async replaceOne(): Promise<void> {
    const index = Math.floor(Math.random() * this.#members.length);
    const { process, reading } = this.#members[index] as Member;
    process.kill("SIGKILL");
    await reading;
    this.#kills++;
    this.#members[index] = this.#start();
  }

  /** Resolves with what each process has done so far. */
  async counts(): Promise<readonly Done[]> {
    this.#counts = [];
    for (const { process } of this.#members) process.write("count");
    await eventually(() => this.#counts.length === this.#members.length, "all count", 60_000);
    return this.#counts;
  }

  /** Lets everything that was begun come to its end. */
  async finish(): Promise<void> {
    for (const { process } of this.#members) process.write("finish");
    // Before, a queue may be empty for a moment only.
    await eventually(() => this.#finishing === this.#members.length, "nothing is added any more", 60_000);
    using reader = new Database(this.#path);
    await eventually(
      () =>
        one(reader, "SELECT count(*) FROM _honker_live WHERE queue = 'q'") === 0 &&
        one(reader, "SELECT count(*) FROM deliveries") === one(reader, EVENTS) &&
        one(reader, "SELECT events FROM projection") === one(reader, EVENTS),
      "everything is done",
      60_000,
    );
    for (const { process, reading } of this.#members) {
      process.kill("SIGKILL");
      await reading;
    }
  }

  /** Nothing that was stored is lost, nothing done twice, nothing updated over another's update. */
  audit(): void {
    using reader = new Database(this.#path);
    expect(this.#failures).toEqual([]);
    expect(this.#stored.size).toBeGreaterThan(0);
    const effects = reader
      .query<{ job: number; n: number }, []>("SELECT job, count(*) AS n FROM effects GROUP BY job")
      .all();
    expect(effects.filter(({ n }) => n !== 1)).toEqual([]);
    const done = new Set(effects.map(({ job }) => job));
    expect([...this.#stored].filter((id) => !done.has(id))).toEqual([]);
    // A handler fails once at most, and a kill costs an attempt.
    expect(one(reader, "SELECT max(attempt) FROM effects")).toBeLessThanOrEqual(2 + this.#kills);
    expect(one(reader, "SELECT count(*) FROM _honker_dead")).toBe(0);
    expect(one(reader, "SELECT count(*) FROM ticks")).toBeGreaterThan(0);
    expect(one(reader, "SELECT count(*) - count(DISTINCT at) FROM ticks")).toBe(0);
    expect(one(reader, "SELECT total FROM projection")).toBe(
      one(reader, "SELECT sum(CAST(payload AS INTEGER)) FROM _honker_stream WHERE topic = 'events'"),
    );
    expect(one(reader, "SELECT value FROM counter")).toBe(one(reader, "SELECT count(*) FROM increments"));
    expect(one(reader, "SELECT count(*) FROM increments")).toBeGreaterThan(0);
    expect(one(reader, "SELECT count(DISTINCT offset) FROM deliveries")).toBe(one(reader, EVENTS));
    expect(one(reader, "SELECT count(*) FROM seizures")).toBe(0);
    assertIntegrity(this.#path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #start(): Member {
    const process = this.#stack.use(new Process("mixed", this.#path));
    const reading = (async () => {
      for (let line = await process.next(); line !== undefined; line = await process.next()) {
        if (typeof line === "number") this.#stored.add(line);
        else if (line === "finishing") this.#finishing++;
        else if (typeof line === "object" && line !== null && "did" in line)
          this.#counts.push(line.did as Done);
        else this.#failures.push(line);
      }
    })();
    return { process, reading };
  }
}

function one(reader: Database, sql: string): number {
  return Object.values(reader.query<Record<string, number>, []>(sql).get() ?? {})[0] ?? Number.NaN;
}
