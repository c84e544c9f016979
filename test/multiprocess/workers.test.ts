import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const JOBS = 2_000;

/** A file with so many jobs, and a table in which workers note their runs. */
function prepare(folder: Folder): void {
  using db = open(folder.file());
  db.sqlite.run("CREATE TABLE runs (job INTEGER, attempt INTEGER, pid INTEGER)");
  db.queue("q").enqueueMany(
    Array.from({ length: JOBS }, (_, n) => n),
    { maxAttempts: 100 },
  );
}

const left = (db: Database): number =>
  db.query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_live").get()?.n ?? -1;

describe("four workers", () => {
  test(`run each of ${JOBS} jobs once`, async () => {
    using folder = new Folder();
    prepare(folder);
    await using stack = new AsyncDisposableStack();
    const workers = Array.from({ length: 4 }, () => stack.use(new Process("counting-worker", folder.file())));
    for (const worker of workers) await worker.read();
    using db = new Database(folder.file());
    await eventually(() => left(db) === 0, "all jobs are run");
    expect(
      db
        .query("SELECT count(*) AS runs, count(DISTINCT job) AS jobs, max(attempt) AS attempt FROM runs")
        .get(),
    ).toEqual({
      runs: JOBS,
      jobs: JOBS,
      attempt: 1,
    });
    expect(db.query("SELECT count(*) AS n FROM _honker_dead").get()).toEqual({ n: 0 });
  }, 60_000);

  test("lose nothing and run nothing twice while one after the other is killed", async () => {
    using folder = new Folder();
    prepare(folder);
    await using stack = new AsyncDisposableStack();
    using db = new Database(folder.file());
    const start = async (): Promise<Process> => {
      const worker = stack.use(new Process("counting-worker", folder.file()));
      await worker.read();
      return worker;
    };
    const workers = await Promise.all([start(), start(), start(), start()]);
    for (let victim = 0; left(db) > 0; victim = (victim + 1) % workers.length) {
      workers[victim]?.kill("SIGKILL");
      await workers[victim]?.exited;
      workers[victim] = await start();
    }
    // Each run is committed with its ack, so that whatever was killed in between has not run.
    expect(db.query("SELECT count(*) AS runs, count(DISTINCT job) AS jobs FROM runs").get()).toEqual({
      runs: JOBS,
      jobs: JOBS,
    });
    expect(db.query("SELECT count(*) AS n FROM _honker_dead").get()).toEqual({ n: 0 });
    expect(db.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  }, 60_000);
});

describe("workers whose clocks jump", () => {
  test("take a job over only when its claim has expired by the clock of whoever frees it, and ack it once", async () => {
    using folder = new Folder();
    using db = open(folder.file());
    db.sqlite.run("CREATE TABLE notes (job INTEGER, worker TEXT, what TEXT, now INTEGER, expires INTEGER)");
    db.sqlite.run(`CREATE TRIGGER freed AFTER UPDATE OF state ON _honker_live
      WHEN old.state = 'processing' AND new.state = 'pending'
      BEGIN INSERT INTO notes VALUES (old.id, old.worker_id, 'freed', 0, old.claim_expires_at); END`);
    db.queue("q").enqueueMany(
      Array.from({ length: 300 }, (_, n) => n),
      { maxAttempts: 1_000, runAt: 0 },
    );
    await using stack = new AsyncDisposableStack();
    const workers = [11, 22, 33].map((seed) => stack.use(new Process("jumping-worker", folder.file(), seed)));
    for (const worker of workers) expect(await worker.read()).toBe("ready");
    for (const worker of workers) expect(await worker.read()).toBe("done");

    interface Note {
      readonly job: number;
      readonly worker: string;
      readonly what: "clock" | "freed" | "claimed" | "acked" | "lost";
      readonly now: number;
      readonly expires: number;
    }
    const holders = new Map<number, { readonly worker: string; valid: boolean }>();
    const acked = new Set<number>();
    const counts = { clock: 0, freed: 0, claimed: 0, acked: 0, lost: 0 };
    let clock = 0;
    for (const note of db.sqlite.query<Note, []>("SELECT * FROM notes ORDER BY rowid").all()) {
      const { job, worker, what } = note;
      const holder = holders.get(job);
      counts[what]++;
      if (what === "clock") clock = note.now;
      else if (what === "freed") {
        expect(note.expires).toBeLessThan(Math.floor(clock / 1_000));
        if (holder !== undefined) holder.valid = false;
      } else if (what === "claimed") {
        expect(holder?.valid ?? false).toBe(false); // never a second holder while a claim is valid
        holders.set(job, { worker, valid: true });
      } else if (what === "acked") {
        expect(holder?.worker).toBe(worker); // by its last holder alone, and once
        expect(acked.has(job)).toBe(false);
        acked.add(job);
      } else {
        expect(holder?.worker).not.toBe(worker);
      }
    }
    expect(acked.size).toBe(300);
    expect(counts.claimed).toBeGreaterThan(300); // some were taken over
    expect(counts.lost).toBe(counts.claimed - 300);
  }, 60_000);
});
