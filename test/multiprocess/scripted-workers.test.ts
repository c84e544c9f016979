import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";
import { isScripted, type Payload, type Step } from "../support/programs/scripted-worker.ts";

const JOBS = 10_000;

/** The same numbers each time, from 0 to 1. */
let seed = 20_260;
function random(): number {
  seed = (seed * 16_807) % 2_147_483_647;
  return seed / 2_147_483_647;
}

function script(): Step[] {
  const steps: Step[] = [];
  while (random() < 0.2) steps.push(random() < 0.8 ? "throw" : "hang");
  const end = random();
  steps.push(end < 0.6 ? "return" : end < 0.8 ? "ack" : end < 0.9 ? "too late" : "bury");
  return steps;
}

test("ten thousand jobs end as their scripts say, though one of three workers is killed five times a second", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  db.sqlite.run("CREATE TABLE runs (job INTEGER, attempt INTEGER, pid INTEGER)");
  db.sqlite.run("CREATE TABLE effects (job INTEGER)");
  // What is freed before its claim expires, and what is claimed while another holds it.
  db.sqlite.run("CREATE TABLE seizures (what TEXT, worker TEXT)");
  db.sqlite.run(`CREATE TRIGGER freed AFTER UPDATE OF state ON _honker_live
    WHEN old.state = 'processing' AND new.state = 'pending' AND new.worker_id IS old.worker_id
      AND old.claim_expires_at >= unixepoch()
    BEGIN INSERT INTO seizures VALUES ('freed early', old.worker_id); END`);
  db.sqlite.run(`CREATE TRIGGER claimed AFTER UPDATE OF worker_id ON _honker_live
    WHEN old.state = 'processing' AND new.state = 'processing'
    BEGIN INSERT INTO seizures VALUES ('claimed twice', old.worker_id); END`);
  const queue = db.queue<Payload, string>("q", { keepResult: true });
  const scripts = Array.from({ length: JOBS }, () => ({ script: script() }));
  const ids = queue.enqueueMany(scripts, { maxAttempts: 1_000 });

  await using stack = new AsyncDisposableStack();
  const start = async (): Promise<Process> => {
    const worker = stack.use(new Process("scripted-worker", folder.file()));
    await worker.read();
    return worker;
  };
  const workers = await Promise.all([start(), start(), start()]);
  using reader = new Database(folder.file());
  const left = reader.query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_live");
  const killed = new Set<number>();
  const isOver = (): boolean => left.get()?.n === 0;
  const killing = (async () => {
    for (;;) {
      await Bun.sleep(200);
      if (isOver()) return;
      const victim = killed.size % workers.length;
      killed.add(workers[victim]?.pid ?? 0);
      workers[victim]?.kill("SIGKILL");
      workers[victim] = await start();
    }
  })();
  await eventually(isOver, "all jobs have ended", 90_000);
  await killing;
  expect(killed.size).toBeGreaterThan(3);

  // Only from the dead is anything taken before that.
  const seizures = reader.query<{ what: string; worker: string }, []>(
    "SELECT DISTINCT what, worker FROM seizures",
  );
  for (const { what, worker } of seizures.all()) {
    expect([what, killed.has(Number(worker.split("~")[0]))]).toEqual(["freed early", true]);
  }
  expect(
    reader.query("SELECT job, attempt FROM runs GROUP BY job, attempt HAVING count(*) > 1").all(),
  ).toEqual([]);
  const effects = reader.query<{ job: number }, []>("SELECT job FROM effects ORDER BY job").all();
  expect(effects.map(({ job }) => job)).toEqual(ids.filter((_, n) => scripts[n]?.script.at(-1) === "ack"));
  let after = 0;
  for (let n = 0; n < JOBS;) {
    for (const info of queue.list({ after, limit: 1_000 })) {
      after = info.id;
      const steps = scripts[n++]?.script ?? [];
      const end = steps.at(-1);
      const errors = info.errors.map(({ message }) => message).filter(isScripted);
      const expected = steps
        .slice(0, end === "bury" ? undefined : -1)
        .map((step) => (step === "hang" ? expect.stringContaining("has been running") : `script: ${step}`));
      expect({ id: info.id, state: info.state, result: info.result, errors }).toEqual({
        id: ids[n - 1] ?? 0,
        state: end === "bury" ? "dead" : "completed",
        result: end === "bury" ? undefined : end,
        errors: expected,
      });
    }
  }
  expect(reader.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
}, 120_000);
