import { Database } from "bun:sqlite";
import { join } from "node:path";

import { open } from "honkbun";

import { nameOf, type Place } from "../place.ts";
import { connectPostgres } from "../postgres.ts";
import { connectRedis } from "../redis.ts";
import type { Question, Topic } from "../topic.ts";
import { rate } from "./rate.ts";

/** Seconds. */
const TTL = 30;
/** So many in an hour, which nobody reaches. */
const LIMIT = 1_000_000_000;

interface Locks {
  /** Takes a lock that is free, and frees it. */
  lock(): unknown;
  /** Asks a fixed window for leave; undefined where that is nothing that people do. */
  readonly ask: (() => unknown) | undefined;
  close(): unknown;
}

export const locks: Topic = {
  title: "locks and rate limits",
  unit: "per second",
  isLess: false,
  subjects: {
    honkbun: "honkbun",
    bare: "hand-written SQL",
    redis: "Redis: SET NX PX, scripts",
    postgres: "PostgreSQL advisory locks",
  },
  questions: {
    lock: ask("lock and release", ({ lock }) => lock),
    rateLimit: ask("rate limit", ({ ask: leave }) => leave),
  },
};

function ask(column: string, what: (locks: Locks) => (() => unknown) | undefined): Question {
  return {
    columns: [column],
    measure: async (subject, place) => {
      const opened = await OPEN[subject]?.(place);
      if (opened == null) return null;
      const act = what(opened);
      const figure = act === undefined ? null : [await rate(1, act)];
      await opened.close();
      return figure;
    },
  };
}

const OPEN: Readonly<Record<string, (place: Place) => Promise<Locks | null>>> = {
  async honkbun({ folder }) {
    const db = open(join(folder, "honkbun.db"));
    const limit = db.rateLimit("limit", { limit: LIMIT, per: "1h" });
    return {
      lock: () => db.tryLock("lock")?.release(),
      ask: () => limit.try(),
      close: () => db.close(),
    };
  },
  async bare({ folder }) {
    const path = join(folder, "bare.db");
    await open(path).close();
    const database = new Database(path);
    database.run("PRAGMA synchronous = NORMAL");
    const take = database.prepare(
      `INSERT INTO _honker_locks (name, owner, expires_at, token)
       SELECT ?1, ?2, ?3, last + 1 FROM _honkbun_lock_tokens WHERE true
       ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at WHERE expires_at <= ?4
       RETURNING token`,
    );
    const free = database.prepare("DELETE FROM _honker_locks WHERE name = ? AND owner = ?");
    const count = database.prepare(
      `INSERT INTO _honker_rate_limits (name, window_start, count) VALUES (?1, ?2, 1)
       ON CONFLICT (name, window_start) DO UPDATE SET count = count + 1 WHERE count < ?3 RETURNING count`,
    );
    const seconds = (): number => Math.floor(Date.now() / 1_000);
    return {
      lock: () => {
        const now = seconds();
        take.get("lock", "me", now + TTL, now);
        free.run("lock", "me");
      },
      ask: () => {
        const now = seconds();
        return count.get("limit", now - (now % 3_600), LIMIT);
      },
      close: () => database.close(),
    };
  },
  async redis(place) {
    const client = await connectRedis(place);
    if (client === null) return null;
    const key = nameOf(place);
    const script = (text: string): Promise<string> => client.send("SCRIPT", ["LOAD", text]);
    const free = await script(
      "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
    );
    const count = await script(
      "local n = redis.call('incr', KEYS[1]) if n == 1 then redis.call('pexpire', KEYS[1], ARGV[1]) end return n",
    );
    return {
      lock: async () => {
        const owner = crypto.randomUUID();
        await client.send("SET", [`${key}:lock`, owner, "NX", "PX", `${TTL * 1_000}`]);
        await client.send("EVALSHA", [free, "1", `${key}:lock`, owner]);
      },
      ask: () => client.send("EVALSHA", [count, "1", `${key}:limit`, "3600000"]),
      close: () => client.close(),
    };
  },
  async postgres(place) {
    const client = await connectPostgres(place);
    if (client === null) return null;
    return {
      lock: async () => {
        await client.query({ name: "lock", text: "SELECT pg_try_advisory_lock($1)", values: [1] });
        await client.query({ name: "unlock", text: "SELECT pg_advisory_unlock($1)", values: [1] });
      },
      ask: undefined,
      close: () => client.end(),
    };
  },
};
