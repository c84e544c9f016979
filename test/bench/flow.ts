// What do groups, blocked jobs and unique keys cost? A claim and an ack beside many of them; an enqueue with a unique key
// beside a plain one; and a plain enqueue beside one on a file without the triggers and indexes that all this needs.
import { type EnqueueOptions, type Honkbun, open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { median, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const GROUPS = scaled(100_000, 1_000);
const SLICE = scaled(200, 20);
const SLICES = scaled(10, 2);

const QUEUE = "emails";
const NONE = "claim, ack: ungrouped";
const PLAIN = "enqueue: plain";
const BARE = "enqueue: plain, without triggers";
const UNIQUE = "enqueue: unique";
const INSERT = "INSERT alone";
const INSERT_UNIQUE = "INSERT alone, with a key";

const FILLS: Record<string, (db: Honkbun) => void> = {
  [NONE]: (db) => fill(db, GROUPS, () => ({})),
  "claim, ack: many groups": (db) => fill(db, GROUPS, (n) => ({ group: `g${n}` })),
  "claim, ack: one group": (db) => fill(db, 2 * GROUPS, () => ({ group: "g" })),
  "claim, ack: beside blocked": (db) => {
    fill(db, GROUPS, () => ({ group: "g" }));
    db.queue(QUEUE).claimBatch(1); // nothing of the group can run
    fill(db, GROUPS, () => ({}));
  },
};

using folder = new Folder();
using stack = new DisposableStack();
const databases = Object.entries(FILLS).map(([name, prepare]) => {
  const db = stack.use(open(folder.file(`${name}.db`)));
  prepare(db);
  return { name, db };
});
const [plain, bare, unique] = [PLAIN, BARE, UNIQUE].map((name) =>
  stack.use(open(folder.file(`${name}.db`))),
) as [Honkbun, Honkbun, Honkbun];
for (const { type, name } of bare.sqlite
  .query<{ type: string; name: string }, []>(
    `SELECT type, name FROM sqlite_schema WHERE name GLOB '_honkbun_*' AND (type = 'trigger' OR name IN (
       '_honkbun_live_group', '_honkbun_live_blocked', '_honkbun_live_unjoined', '_honkbun_live_waiting'))`,
  )
  .all()) {
  bare.sqlite.run(`DROP ${type} ${name}`);
}

// What the index on keys costs by itself: one more page for each commit to write.
const inserts = [INSERT, INSERT_UNIQUE].map((name) => {
  const { sqlite } = stack.use(open(folder.file(`${name}.db`)));
  const statement = sqlite.prepare(
    "INSERT INTO _honker_live (queue, payload, run_at, due_ms, created_at, unique_key) VALUES (?, ?, ?, ?, ?, ?)",
  );
  return (uniqueKey: string): void => {
    const now = Date.now();
    const seconds = Math.floor(now / 1_000);
    const text = JSON.stringify(payload(0));
    statement.run(QUEUE, text, seconds, now, seconds, name === INSERT ? null : uniqueKey);
  };
});

let key = 0;
const figures = await rounds(`${GROUPS} groups`, ["µs", "ratio"], async () => {
  const times: Record<string, number[]> = {};
  const note = async (name: string, one: () => unknown): Promise<void> => {
    await nextTurn();
    times[name] = [...(times[name] ?? []), time(one)];
  };
  for (let n = 0; n < SLICES; n++) {
    for (const { name, db } of databases) await note(name, () => claim(db));
    await note(PLAIN, () => plain.queue(QUEUE).enqueue(payload(n)));
    await note(BARE, () => bare.queue(QUEUE).enqueue(payload(n)));
    await note(UNIQUE, () => unique.queue(QUEUE).enqueue(payload(n), { uniqueKey: `user:${key++}` }));
    await note(INSERT, () => inserts[0]?.(""));
    await note(INSERT_UNIQUE, () => inserts[1]?.(`user:${key++}`));
  }
  const of = (name: string): number => median(times[name] ?? []);
  const ratios: Record<string, number> = {
    [PLAIN]: 1,
    [INSERT]: 1,
    [BARE]: of(PLAIN) / of(BARE),
    [UNIQUE]: of(PLAIN) / of(UNIQUE),
    [INSERT_UNIQUE]: of(INSERT) / of(INSERT_UNIQUE),
  };
  const ratio = (name: string): number => ratios[name] ?? of(name) / of(NONE);
  return Object.fromEntries(Object.keys(times).map((name) => [name, [of(name), ratio(name)]]));
});
for (const { name } of databases.slice(1))
  verdict(`${name}, time / ungrouped`, figures(name, "ratio"), "at most", 2);
verdict("enqueue: time / without triggers", figures(BARE, "ratio"), "at most", 1.03);
verdict("unique enqueue, rate / plain", figures(UNIQUE, "ratio"), "at least", 0.8);

/** Microseconds per call. */
function time(call: () => unknown): number {
  const start = performance.now();
  for (let n = 0; n < SLICE; n++) call();
  return ((performance.now() - start) * 1_000) / SLICE;
}

function claim(db: Honkbun): void {
  const [job] = db.queue(QUEUE).claimBatch(1);
  if (job === undefined) throw new Error("there is no job to claim");
  job.ack();
}

function fill(db: Honkbun, count: number, options: (n: number) => EnqueueOptions): void {
  for (let from = 0; from < count; from += 50_000) {
    const numbers = Array.from({ length: Math.min(50_000, count - from) }, (_, n) => from + n);
    db.queue<unknown>(QUEUE).enqueueMany(numbers, (n) => options(n as number));
  }
}
