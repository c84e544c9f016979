// Runs jobs of the queue "q" with a clock that jumps, and notes what it finds. Arguments: path, seed.
import { ClaimLostError, open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", seed] = process.argv.slice(2);
let random = Number(seed);
/** The same numbers for the same seed, from 0 to 1. */
function next(): number {
  random = (random * 16_807) % 2_147_483_647;
  return random / 2_147_483_647;
}

let now = Date.now();
const db = open(path, { clock: () => now, wake: { safetyInterval: false, mode: "watch" } });
const queue = db.queue("q", { visibilityTimeout: "10s", maxAttempts: 1_000, backoff: { base: 0 } });
const note = db.sqlite.prepare("INSERT INTO notes (job, worker, what, now, expires) VALUES (?, ?, ?, ?, ?)");
const expiresAt = db.sqlite.prepare<{ at: number; worker: string }, [number]>(
  "SELECT claim_expires_at AS at, worker_id AS worker FROM _honker_live WHERE id = ?",
);
say("ready");
for (let idle = 0; idle < 20;) {
  now += Math.floor((next() - 0.45) * 30_000); // back and forth
  const job = db.transaction(() => {
    note.run(0, "", "clock", now, 0);
    const [claimed] = queue.claimBatch(1);
    if (claimed === undefined) return undefined;
    const row = expiresAt.get(claimed.id);
    note.run(claimed.id, row?.worker ?? "", "claimed", now, row?.at ?? 0);
    return { claimed, worker: row?.worker ?? "" };
  });
  idle = job === undefined ? idle + 1 : 0;
  if (job === undefined) continue;
  if (next() < 0.5) await Bun.sleep(1); // time for others
  now += Math.floor((next() - 0.4) * 20_000);
  try {
    db.transaction(() => {
      job.claimed.ack();
      note.run(job.claimed.id, job.worker, "acked", now, 0);
    });
  } catch (error) {
    if (!(error instanceof ClaimLostError)) throw error;
    db.transaction(() => note.run(job.claimed.id, job.worker, "lost", now, 0));
  }
}
db.close();
say("done");
