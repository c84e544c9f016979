// Taking and freeing a lock, and asking a rate limit, against the bare statements that they need: each committed by itself, on the
// same file.
import { Database } from "bun:sqlite";

import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { nextTurn, rounds, scaled, verdict } from "./support.ts";

const COUNT = scaled(4_000, 50);
const KEYS = scaled(1_000_000, 1_000);

/** Microseconds for each, of calls in blocks that give the event loop its turn. */
async function time(call: (n: number) => void): Promise<number> {
  let spent = 0;
  for (let n = 0; n < COUNT;) {
    const start = performance.now();
    for (const end = Math.min(n + 50, COUNT); n < end; n++) call(n);
    spent += performance.now() - start;
    await nextTurn();
  }
  return (spent * 1_000) / COUNT;
}

const medianOf = await rounds("microseconds", ["honkbun", "bare"], async () => {
  using folder = new Folder();
  using db = open(folder.file());
  using bare = new Database(folder.file());
  bare.run("PRAGMA synchronous = NORMAL");
  bare.run("PRAGMA wal_autocheckpoint = 0");
  bare.run("PRAGMA busy_timeout = 5000");
  const lock = bare.prepare(
    `INSERT INTO _honker_locks (name, owner, expires_at, token)
     SELECT ?1, ?2, ?3, last + 1 FROM _honkbun_lock_tokens WHERE true
     ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at WHERE expires_at <= ?4
     RETURNING token`,
  );
  const unlock = bare.prepare("DELETE FROM _honker_locks WHERE name = ? AND owner = ?");
  const window = bare.prepare(
    `INSERT INTO _honker_rate_limits (name, window_start, count) VALUES (?1, ?2, 1)
     ON CONFLICT (name, window_start) DO UPDATE SET count = count + 1 WHERE count < ?3 RETURNING count`,
  );
  const bucket = bare.prepare(
    `INSERT INTO _honkbun_buckets (name, full_at) VALUES (?1, ?2 + ?3)
     ON CONFLICT (name) DO UPDATE SET full_at = max(?2, full_at) + ?3 WHERE max(?2, full_at) + ?3 <= ?4
     RETURNING full_at`,
  );
  const fixed = db.rateLimit("fixed", { limit: 1_000_000, per: "1h" });
  const steady = db.rateLimit("steady", { limit: 1_000_000, per: "1h", algorithm: "token-bucket" });
  const rate = (limit: typeof fixed) => time(() => void limit.try());
  db.tryLock("warm")?.release();
  await nextTurn();
  const figures: Record<string, readonly number[]> = {
    "lock and release": [
      await time(() => db.tryLock("a")?.release()),
      await time((n) => {
        const now = Math.floor(Date.now() / 1_000);
        lock.get("b", `me~${n}`, now + 30, now);
        unlock.run("b", `me~${n}`);
      }),
    ],
    "rate limit, fixed": [
      await rate(fixed),
      await time(() => {
        const now = Math.floor(Date.now() / 1_000);
        window.get("bare", now - (now % 3_600), 1_000_000);
      }),
    ],
    "rate limit, token bucket": [
      await rate(steady),
      await time(() => {
        const now = Date.now() * 1_000;
        bucket.get("bare", now, 3_600, now + 3_600_000_000);
      }),
    ],
  };
  bare.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${KEYS})
     INSERT INTO _honker_rate_limits (name, window_start, count, ends_at)
     SELECT 'fixed' || char(31) || 'user-' || i, unixepoch() / 3600 * 3600, 1, unixepoch() / 3600 * 3600 + 3600 FROM n`,
  );
  bare.run(
    `INSERT INTO _honkbun_buckets SELECT 'steady' || substr(name, 6), (unixepoch() + 3600) * 1000000 FROM _honker_rate_limits
     WHERE name GLOB 'fixed' || char(31) || '*'`,
  );
  bare.run("PRAGMA wal_checkpoint(TRUNCATE)");
  const key = (): string => `user-${Math.floor(Math.random() * KEYS) + 1}`;
  const ofOne = await rate(fixed);
  figures["one of 10^6 keys, against one, fixed"] = [await time(() => void fixed.try({ key: key() })), ofOne];
  const ofOneBucket = await rate(steady);
  figures["the same, token bucket"] = [await time(() => void steady.try({ key: key() })), ofOneBucket];
  return figures;
});

const speed = (subject: string): number => medianOf(subject, "bare") / medianOf(subject, "honkbun");
for (const subject of ["lock and release", "rate limit, fixed", "rate limit, token bucket"]) {
  verdict(`${subject}, of the speed of bare SQL`, speed(subject), "at least", 0.7);
}
for (const subject of ["one of 10^6 keys, against one, fixed", "the same, token bucket"]) {
  verdict(subject, 1 / speed(subject), "at most", 2);
}
