// What a tick costs beside many idle schedules, and how late jobs are enqueued.
import { open } from "../../src/index.ts";
import { JumpingHonkbun } from "../support/database.ts";
import { Folder } from "../support/folder.ts";
import { nextTurn, percentile, rounds, scaled, verdict } from "./support.ts";

const IDLE = scaled(100_000, 1_000);
const TICKS = scaled(300, 20);
const SCHEDULES = scaled(10_000, 100);
const SECONDS = scaled(12, 3);

/** Microseconds of a tick that fires one schedule, beside so many that are not due. */
async function tick(idle: number): Promise<number> {
  using db = new JumpingHonkbun({ file: true, now: new Date() });
  db.transaction(() => {
    for (let n = 0; n < idle; n++)
      db.scheduler.add(`idle-${n}`, { every: "30d", queue: "idle", payload: { n } });
  });
  db.scheduler.add("busy", { every: "1s", queue: "busy", payload: { n: 1 } });
  await using _ = db.scheduler.start();
  while (db.locks.list().length === 0) await nextTurn();
  const count = db.sqlite.prepare<{ n: number }, []>(
    "SELECT seq AS n FROM sqlite_sequence WHERE name = '_honker_live'",
  );
  const times: number[] = [];
  for (let n = 1; n <= TICKS; n++) {
    const start = performance.now();
    db.clock.advance("1s");
    while ((count.get()?.n ?? 0) < n) await nextTurn();
    times.push((performance.now() - start) * 1_000);
  }
  return percentile(times, 0.5);
}

/** Milliseconds from boundaries to the commits of their jobs, p50 and p99: of schedules at random times, and all at one. */
async function lateness(isAtOnce: boolean): Promise<number[]> {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  db.sqlite.run("CREATE TABLE late (ms REAL)");
  const start = Math.ceil(Date.now() / 1_000) * 1_000 + 3_000;
  db.transaction(() => {
    for (let n = 0; n < SCHEDULES; n++) {
      const startAt = isAtOnce ? start : start + Math.floor(Math.random() * 10_000);
      db.scheduler.add(`s-${n}`, { every: "10s", startAt, queue: "q", payload: { n } });
    }
  });
  await using _ = db.scheduler.start();
  const late: number[] = [];
  const rows = db.sqlite.prepare<{ id: number; due: number }, [number]>(
    "SELECT id, due FROM _honker_live WHERE id > ? ORDER BY id",
  );
  let last = 0;
  const end = start + SECONDS * 1_000;
  while (Date.now() < end) {
    for (const { id, due } of rows.all(last)) {
      late.push(Date.now() - due);
      last = id;
    }
    await Bun.sleep(1);
  }
  return [percentile(late, 0.5), percentile(late, 0.99)];
}

const medianOf = await rounds("a tick, microseconds", ["beside 10", "beside 10^5"], async () => ({
  tick: [await tick(10), await tick(IDLE)],
}));
verdict(
  "a tick beside 10^5 idle schedules, against one beside 10",
  medianOf("tick", "beside 10^5") / medianOf("tick", "beside 10"),
  "at most",
  1.5,
);
const [p50, p99] = (await lateness(false)) as [number, number];
const [, p99AtOnce] = (await lateness(true)) as [number, number];
console.log(`enqueued after the boundary, of ${SCHEDULES} schedules: p50 ${p50} ms`);
verdict("the same, p99, milliseconds", p99, "at most", 50);
console.log(`all of them due at the same moment: p99 ${p99AtOnce} ms`);
