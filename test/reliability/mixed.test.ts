import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";
import { assertIntegrity } from "../support/workload.ts";

/** RELIABILITY_KILLS=1000 RELIABILITY_PROCESSES=16 makes it long. */
const KILLS = Number(Bun.env.RELIABILITY_KILLS ?? 25);
const PROCESSES = Number(Bun.env.RELIABILITY_PROCESSES ?? 4);

interface Member {
  readonly process: Process;
  /** Resolves with what it said that is no id, once it has ended. */
  readonly reading: Promise<void>;
}

test(
  "processes that do everything at once lose nothing, and do nothing twice, though one after the other is killed",
  async () => {
    using folder = new Folder();
    const path = folder.file();
    {
      using db = open(path);
      db.sqlite.run("CREATE TABLE effects (job INTEGER)");
      db.sqlite.run("CREATE TABLE projection (events INTEGER, total INTEGER)");
      db.sqlite.run("INSERT INTO projection VALUES (0, 0)");
      db.sqlite.run("CREATE TABLE counter (value INTEGER)");
      db.sqlite.run("INSERT INTO counter VALUES (0)");
      db.sqlite.run("CREATE TABLE increments (id INTEGER PRIMARY KEY)");
      db.sqlite.run("CREATE TABLE seizures (worker TEXT)");
      db.sqlite.run(`CREATE TRIGGER claimed_twice AFTER UPDATE OF worker_id ON _honker_live
      WHEN old.state = 'processing' AND new.state = 'processing' BEGIN INSERT INTO seizures VALUES (old.worker_id); END`);
    }
    await using stack = new AsyncDisposableStack();
    const stored = new Set<number>();
    const failures: unknown[] = [];
    let finishing = 0;
    const start = (): Member => {
      const process = stack.use(new Process("mixed", path));
      const reading = (async () => {
        for (let line = await process.next(); line !== undefined; line = await process.next()) {
          if (typeof line === "number") stored.add(line);
          else if (line === "finishing") finishing++;
          else failures.push(line);
        }
      })();
      return { process, reading };
    };
    const members = Array.from({ length: PROCESSES }, start);
    for (let kills = 0; kills < KILLS; kills++) {
      await Bun.sleep(100 + 300 * Math.random());
      const index = Math.floor(Math.random() * members.length);
      const victim = members[index] as Member;
      victim.process.kill("SIGKILL");
      await victim.reading;
      members[index] = start();
    }
    for (const { process } of members) process.write("finish");

    // Before, a queue may be empty for a moment only.
    await eventually(() => finishing === PROCESSES, "nothing is added any more", 60_000);
    using reader = new Database(path);
    const one = (sql: string): number =>
      Object.values(reader.query<Record<string, number>, []>(sql).get() ?? {})[0] ?? Number.NaN;
    await eventually(
      () =>
        one("SELECT count(*) FROM _honker_live WHERE queue = 'q'") === 0 &&
        one("SELECT events FROM projection") ===
          one("SELECT count(*) FROM _honker_stream WHERE topic = 'events'"),
      "everything is done",
      60_000,
    );
    for (const { process, reading } of members) {
      process.kill("SIGKILL");
      await reading;
    }

    expect(failures).toEqual([]);
    expect(stored.size).toBeGreaterThan(KILLS);
    const effects = reader
      .query<{ job: number; n: number }, []>("SELECT job, count(*) AS n FROM effects GROUP BY job")
      .all();
    expect(effects.filter(({ n }) => n !== 1)).toEqual([]);
    const done = new Set(effects.map(({ job }) => job));
    expect([...stored].filter((id) => !done.has(id))).toEqual([]);
    expect(one("SELECT count(*) FROM _honker_dead")).toBe(0);
    expect(one("SELECT total FROM projection")).toBe(
      one("SELECT sum(CAST(payload AS INTEGER)) FROM _honker_stream WHERE topic = 'events'"),
    );
    expect(one("SELECT value FROM counter")).toBe(one("SELECT count(*) FROM increments"));
    expect(one("SELECT count(*) FROM increments")).toBeGreaterThan(KILLS);
    expect(one("SELECT count(*) FROM seizures")).toBe(0);
    assertIntegrity(path);
  },
  600_000 + KILLS * 2_000,
);
