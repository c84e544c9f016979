// Does a claim cost more the more rows there are that it does not want, or not now? And what loops ask between claims:
// when the next job is due, and whether there is anything to free?
import { type Honkbun, open } from "honkbun";

import { nextDeadline, sweepQueue } from "../../src/queue/operations.ts";
import { Connection } from "../../src/sqlite/connection.ts";
import { Folder } from "../support/folder.ts";
import { median, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const ROWS = scaled(1_000_000, 1_000);
const SLICE = scaled(200, 20);
const SLICES = 5;

const QUEUE = "emails";
const NONE = "no other rows";

const FILLS: Record<string, (db: Honkbun) => void> = {
  [NONE]: (db) => fill(db, QUEUE, 1, { delay: "1d" }),
  "delayed, higher priority": (db) => fill(db, QUEUE, ROWS, { delay: "1d", priority: 10 }),
  ready: (db) => fill(db, QUEUE, ROWS),
  "of another queue": (db) => fill(db, "other", ROWS),
  processing: (db) => {
    fill(db, QUEUE, ROWS);
    const queue = db.queue(QUEUE, { visibilityTimeout: "1d" });
    for (let left = ROWS; left > 0; left -= 1_000) queue.claimBatch(Math.min(left, 1_000));
  },
  dead: (db) => {
    fill(db, QUEUE, ROWS, { expiresIn: 1 });
    db.sqlite
      .run(`INSERT INTO _honker_dead SELECT id, queue, payload, priority, run_at, 3, 3, 'no', created_at, created_at
      FROM _honker_live`);
    db.sqlite.run("DELETE FROM _honker_live");
  },
};

using folder = new Folder();
using stack = new DisposableStack();
const databases = Object.entries(FILLS).map(([name, prepare]) => {
  const db = stack.use(open(folder.file(`${name}.db`)));
  prepare(db);
  return { name, db, connection: new Connection(db.sqlite, false) };
});

const FIGURES = ["claim, ack µs", "ratio", "deadline µs", "deadline ratio", "sweep µs", "sweep ratio"];
const figures = await rounds(`beside ${ROWS} rows`, FIGURES, async () => {
  const times = new Map(databases.map(({ name }) => [name, [[], [], []] as [number[], number[], number[]]]));
  for (let n = 0; n < SLICES; n++) {
    for (const { name, db, connection } of databases) {
      fill(db, QUEUE, SLICE);
      await nextTurn();
      const [claims, deadlines, sweeps] = times.get(name) ?? [[], [], []];
      claims.push(timeClaims(db));
      await nextTurn();
      const now = Date.now();
      deadlines.push(time(() => nextDeadline(connection, QUEUE, now)));
      db.transaction(() => sweeps.push(time(() => sweepQueue(connection, QUEUE, now, () => {}))));
      await nextTurn();
    }
  }
  const bare = (times.get(NONE) ?? []).map(median);
  return Object.fromEntries(
    [...times].map(([name, all]) => [
      name,
      all.flatMap((found, index) => [median(found), median(found) / (bare[index] ?? 0)]),
    ]),
  );
});
for (const { name } of databases.slice(1)) {
  for (const ratio of ["ratio", "deadline ratio", "sweep ratio"])
    verdict(`${name}, ${ratio}`, figures(name, ratio), "at most", 1.5);
}

/** Microseconds per call. */
function time(call: () => unknown): number {
  const start = performance.now();
  for (let n = 0; n < SLICE; n++) call();
  return ((performance.now() - start) * 1_000) / SLICE;
}

function timeClaims(db: Honkbun): number {
  const queue = db.queue(QUEUE);
  return time(() => {
    const [job] = queue.claimBatch(1);
    if (job === undefined) throw new Error("there is no job to claim");
    job.ack();
  });
}

function fill(
  db: Honkbun,
  queue: string,
  count: number,
  options?: { readonly delay?: "1d"; readonly priority?: number; readonly expiresIn?: number },
): void {
  for (let from = 0; from < count; from += 50_000) {
    const payloads = Array.from({ length: Math.min(50_000, count - from) }, (_, n) => payload(from + n));
    db.queue(queue).enqueueMany(payloads, options);
  }
}
