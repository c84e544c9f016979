// Does a claim cost more the more rows there are that it does not want, or not now?
import { type Honkbun, open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { median, nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const ROWS = scaled(200_000, 200);
const CLAIMED = scaled(1_000, 20);
const SLICE = scaled(200, 20);
const SLICES = 5;

const QUEUE = "emails";

const FILLS: Record<string, (db: Honkbun) => void> = {
  "no other rows": () => {},
  [`${ROWS} delayed, higher priority`]: (db) => fill(db, ROWS, { delay: "1d", priority: 10 }),
  [`${ROWS} ready`]: (db) => fill(db, ROWS),
  [`${CLAIMED} processing`]: (db) => {
    fill(db, CLAIMED);
    db.queue(QUEUE).claimBatch(CLAIMED, { visibilityTimeout: "1d" });
  },
};

using folder = new Folder();
using stack = new DisposableStack();
const databases = Object.entries(FILLS).map(([name, prepare]) => {
  const db = stack.use(open(folder.file(`${name}.db`)));
  prepare(db);
  return { name, db };
});

const figures = await rounds("claimBatch(1) and ack", ["µs", "ratio"], async () => {
  const times = new Map(databases.map(({ name }) => [name, [] as number[]]));
  for (let n = 0; n < SLICES; n++) {
    for (const { name, db } of databases) {
      fill(db, SLICE);
      await nextTurn();
      times.get(name)?.push(timeClaims(db));
      await nextTurn();
    }
  }
  const first = median(times.get("no other rows") ?? []);
  return Object.fromEntries(
    [...times].map(([name, found]) => [name, [median(found), median(found) / first]]),
  );
});
for (const { name } of databases.slice(1)) verdict(name, figures(name, "ratio"), "at most", 1.5);

/** Microseconds per job. */
function timeClaims(db: Honkbun): number {
  const queue = db.queue(QUEUE);
  const start = performance.now();
  for (let n = 0; n < SLICE; n++) {
    const [job] = queue.claimBatch(1);
    if (job === undefined) throw new Error("there is no job to claim");
    job.ack();
  }
  return ((performance.now() - start) * 1_000) / SLICE;
}

function fill(
  db: Honkbun,
  count: number,
  options?: { readonly delay: "1d"; readonly priority: number },
): void {
  const queue = db.queue(QUEUE);
  db.transaction(() => {
    for (let n = 0; n < count; n++) queue.enqueue(payload(n), options);
  });
}
