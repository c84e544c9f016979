// What do `claimBatch(100)` and `ackBatch` cost, beside bare SQL that does the same in two transactions?
import { Database } from "bun:sqlite";

import { open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const BATCH = 100;
const BATCHES = scaled(30, 2);
const SLICES = scaled(10, 2);

/** Claims a hundred jobs and deletes them, knowing nothing but what the table says. */
class BareWorker implements Disposable {
  readonly #database: Database;
  readonly #claim: ReturnType<Database["prepare"]>;
  readonly #delete: ReturnType<Database["prepare"]>;

  constructor(file: string) {
    this.#database = new Database(file, { create: false, readwrite: true });
    this.#database.run("PRAGMA synchronous = NORMAL");
    this.#claim = this.#database.prepare(
      `UPDATE _honker_live SET state = 'processing', worker_id = ?1, claim_expires_at = ?2, attempts = attempts + 1
       WHERE id IN (
         SELECT id FROM _honker_live WHERE queue = 'emails' AND state = 'pending' AND due <= ?3
         ORDER BY priority DESC, due, id LIMIT ${BATCH})
       RETURNING id, payload, attempts`,
    );
    this.#delete = this.#database.prepare(
      "DELETE FROM _honker_live WHERE id IN (SELECT value FROM json_each(?1)) AND worker_id = ?2",
    );
  }

  run(): number {
    const now = Date.now();
    const rows = this.#claim.all("bare", Math.ceil(now / 1_000) + 300, now) as {
      id: number;
      payload: string;
    }[];
    const jobs = rows.map((row) => ({ id: row.id, payload: JSON.parse(row.payload) as unknown }));
    this.#delete.run(JSON.stringify(jobs.map(({ id }) => id)), "bare");
    return jobs.length;
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

const figures = await rounds(`batches of ${BATCH}`, ["µs per job", "ratio"], async () => {
  using folder = new Folder();
  using db = open(folder.file("honkbun.db"));
  using filler = open(folder.file("bare.db"));
  using bare = new BareWorker(folder.file("bare.db"));
  const queue = db.queue("emails");
  const payloads = Array.from({ length: BATCH * BATCHES }, (_, n) => payload(n));
  let [bareTime, honkbunTime] = [0, 0];
  for (let slice = 0; slice < SLICES; slice++) {
    filler.queue("emails").enqueueMany(payloads);
    queue.enqueueMany(payloads);
    await nextTurn();
    bareTime += time(() => bare.run());
    await nextTurn();
    honkbunTime += time(() => queue.ackBatch(queue.claimBatch(BATCH)));
    await nextTurn();
  }
  return { "bare SQL": [bareTime, 1], "claimBatch, ackBatch": [honkbunTime, bareTime / honkbunTime] };
});
verdict("rate of honkbun / rate of bare SQL", figures("claimBatch, ackBatch", "ratio"), "at least", 0.8);

/** Microseconds per job, as a share of all slices. */
function time(batch: () => number): number {
  const start = performance.now();
  for (let n = 0; n < BATCHES; n++) {
    if (batch() !== BATCH) throw new Error("not all jobs of a batch were run");
  }
  return ((performance.now() - start) * 1_000) / (BATCH * BATCHES) / SLICES;
}
