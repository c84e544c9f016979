import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { type Honkbun, open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

interface Note {
  readonly job: number;
  readonly n: number;
  readonly what: "begin" | "end";
  readonly at: number;
}

/** Four workers, of which one after the other is killed and replaced until all jobs are run. Returns their notes. */
async function runBesideKills(
  folder: Folder,
  db: Honkbun,
  pause: number,
): Promise<{ readonly notes: readonly Note[]; readonly most: number }> {
  using log = new Database(folder.file("notes.db"));
  log.run("PRAGMA journal_mode = WAL");
  log.run("PRAGMA busy_timeout = 10000");
  log.run("CREATE TABLE notes (job INTEGER, n INTEGER, what TEXT, pid INTEGER, at INTEGER)");
  log.run("CREATE TABLE running (job INTEGER, pid INTEGER)");
  log.run("CREATE TABLE most (n INTEGER)");
  log.run("INSERT INTO most VALUES (0)");
  await using stack = new AsyncDisposableStack();
  const start = async (): Promise<Process> => {
    const worker = stack.use(new Process("flow-worker", folder.file(), folder.file("notes.db"), 3));
    await worker.read();
    return worker;
  };
  const workers = await Promise.all([start(), start(), start(), start()]);
  const left = (): number => {
    const { ready, delayed, processing, blocked } = db.queue("q").counts();
    return ready + delayed + processing + blocked;
  };
  for (let victim = 0; left() > 0; victim = (victim + 1) % workers.length) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    workers[victim]?.kill("SIGKILL");
    await workers[victim]?.exited;
    workers[victim] = await start();
  }
  await eventually(() => left() === 0, "all are run");
  const notes = log.query<Note, []>("SELECT job, n, what, at FROM notes ORDER BY rowid").all();
  return { notes, most: log.query<{ n: number }, []>("SELECT n FROM most").get()?.n ?? 0 };
}

function enqueue(db: Honkbun, count: number, groups: number): void {
  db.queue<{ n: number }>("q").enqueueMany(
    Array.from({ length: count }, (_, n) => ({ n })),
    ({ n }) => ({ maxAttempts: 100, ...(groups === 0 ? {} : { group: `g${n % groups}` }) }),
  );
}

describe("beside workers that are killed at random", () => {
  test("a queue's concurrency is never exceeded, and all is run", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    db.queue("q").setLimits({ concurrency: 5 });
    enqueue(db, 400, 0);
    const { notes, most } = await runBesideKills(folder, db, 300);
    expect(most).toBeLessThanOrEqual(5);
    expect(most).toBeGreaterThan(2);
    expect(new Set(notes.filter(({ what }) => what === "end").map(({ job }) => job)).size).toBe(400);
    expect(db.queue("q").counts().dead).toBe(0);
  }, 60_000);

  test("jobs of a group run one after the other, in their order", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    enqueue(db, 200, 4);
    const { notes } = await runBesideKills(folder, db, 300);
    const ended = new Set<number>();
    const violations: Note[] = [];
    for (const note of notes) {
      if (note.what === "end") ended.add(note.n);
      // All before it in its group have ended.
      else for (let n = note.n - 4; n >= 0; n -= 4) if (!ended.has(n)) violations.push(note);
    }
    expect(violations).toEqual([]);
    expect(ended.size).toBe(200);
  }, 60_000);

  test("a queue's rate is never exceeded", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    db.queue("q").setLimits({ rate: { limit: 20, per: "1s" } });
    enqueue(db, 80, 0);
    const { notes } = await runBesideKills(folder, db, 700);
    const starts = notes.filter(({ what }) => what === "begin").map(({ at }) => at);
    // A handler begins some moments after its claim, which is what counts.
    const most = Math.max(
      ...starts.map((from) => starts.filter((at) => at >= from && at < from + 700).length),
    );
    expect(most).toBeLessThanOrEqual(20);
    expect(new Set(notes.filter(({ what }) => what === "end").map(({ job }) => job)).size).toBe(80);
  }, 60_000);

  test("what is to run after others runs once, after all of them", async () => {
    using folder = new Folder();
    await using db = open(folder.file());
    const queue = db.queue<{ n: number }>("q");
    const layers: number[][] = [];
    for (let layer = 0; layer < 3; layer++) {
      const payloads = Array.from({ length: 40 }, (_, n) => ({ n: layer * 40 + n }));
      const after = layers.at(-1);
      layers.push(
        queue.enqueueMany(payloads, { maxAttempts: 100, ...(after === undefined ? {} : { after }) }),
      );
    }
    const { notes } = await runBesideKills(folder, db, 300);
    const ended = new Set<number>();
    const violations: Note[] = [];
    for (const note of notes) {
      if (note.what === "end") ended.add(note.job);
      else {
        const layer = Math.floor(note.n / 40);
        if (layer > 0 && !layers[layer - 1]?.every((id) => ended.has(id))) violations.push(note);
      }
    }
    expect(violations).toEqual([]);
    expect(ended.size).toBe(120);
  }, 60_000);
});
