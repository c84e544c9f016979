// Does a claim cost more the more rows there are that it does not want, or not now? And what loops ask between claims:
// when the next job is due, and whether there is anything to free?
import { type EnqueueOptions, type Honkbun, open } from "honkbun";

import { nextDeadline, sweepQueue } from "../../src/queue/operations.ts";
import { Connection } from "../../src/sqlite/connection.ts";
import { Folder } from "../support/folder.ts";
import { median, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

/** Rows beside which it is measured. */
const [FEW, MANY] = [scaled(1_000, 100), scaled(1_000_000, 1_000)];
const SLICE = scaled(200, 20);
const SLICES = 5;

const QUEUE = "emails";

/** What makes so many rows of a kind. */
const FILLS: Record<string, (db: Honkbun, rows: number) => void> = {
  "delayed, higher priority": (db, rows) => fill(db, QUEUE, rows, { delay: "1d", priority: 10 }),
  ready: (db, rows) => fill(db, QUEUE, rows),
  "of another queue": (db, rows) => fill(db, "other", rows),
  processing: (db, rows) => {
    fill(db, QUEUE, rows);
    const queue = db.queue(QUEUE, { visibilityTimeout: "1d" });
    for (let left = rows; left > 0; left -= 1_000) queue.claimBatch(Math.min(left, 1_000));
  },
  blocked: (db, rows) => fill(db, QUEUE, rows, { after: [db.queue("other").enqueue(0)] }),
  dead: (db, rows) => {
    fill(db, QUEUE, rows, { expiresIn: 1 });
    db.sqlite
      .run(`INSERT INTO _honker_dead SELECT id, queue, payload, priority, run_at, 3, 3, 'no', created_at, created_at
      FROM _honker_live`);
    db.sqlite.run("DELETE FROM _honker_live");
  },
};

using folder = new Folder();
using stack = new DisposableStack();
const databases = Object.entries(FILLS).flatMap(([kind, prepare]) =>
  [FEW, MANY].map((rows) => {
    const db = stack.use(open(folder.file(`${kind} ${rows}.db`)));
    prepare(db, rows);
    return { kind, rows, db, connection: new Connection(db.sqlite, false) };
  }),
);

const QUESTIONS = ["claim, ack", "deadline", "sweep"];
const headings = QUESTIONS.flatMap((question) => [`${question} µs`, `${question}, ratio`]);
const figures = await rounds(`beside ${MANY} rows`, headings, async () => {
  const times = databases.map((database) => ({ ...database, found: [[], [], []] as number[][] }));
  for (let n = 0; n < SLICES; n++) {
    for (const { db, connection, found } of times) {
      fill(db, QUEUE, SLICE);
      await nextTurn();
      found[0]?.push(timeClaims(db));
      await nextTurn();
      const now = Date.now();
      found[1]?.push(time(() => nextDeadline(connection, QUEUE, now)));
      db.transaction(() => found[2]?.push(time(() => sweepQueue(connection, QUEUE, now, () => {}))));
      await nextTurn();
    }
  }
  return Object.fromEntries(
    Object.keys(FILLS).map((kind) => {
      const [few, many] = [FEW, MANY].map((rows) =>
        (times.find((one) => one.kind === kind && one.rows === rows)?.found ?? []).map(median),
      );
      return [kind, (many ?? []).flatMap((took, index) => [took, took / (few?.[index] ?? 0)])];
    }),
  );
});
for (const kind of Object.keys(FILLS)) {
  for (const question of QUESTIONS) {
    const ratio = figures(kind, `${question}, ratio`);
    verdict(`${question}: time beside ${MANY} rows, ${kind} / beside ${FEW}`, ratio, "at most", 1.5);
  }
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

function fill(db: Honkbun, queue: string, count: number, options?: EnqueueOptions): void {
  for (let from = 0; from < count; from += 50_000) {
    const payloads = Array.from({ length: Math.min(50_000, count - from) }, (_, n) => payload(from + n));
    db.queue(queue).enqueueMany(payloads, options);
  }
}
