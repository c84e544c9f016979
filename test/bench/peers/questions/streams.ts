import { Database } from "bun:sqlite";
import { join } from "node:path";

import { open } from "honkbun";

import { scaled } from "../../support.ts";
import { nameOf, type Place } from "../place.ts";
import { payload } from "../queue.ts";
import { connectRedis } from "../redis.ts";
import type { Question, Topic } from "../topic.ts";
import { numbers, rate } from "./rate.ts";

const BULK = 1_000;
const EVENTS = scaled(100_000, BULK);
/** Events that one query reads. */
const PAGE = 500;

interface Log {
  publish(n: number): unknown;
  publishMany(numbers: readonly number[]): unknown;
  /** Reads all from the beginning, each payload as an object; returns how many there were. */
  replay(): Promise<number>;
  close(): unknown;
}

export const streams: Topic = {
  title: "streams",
  unit: "events per second",
  isLess: false,
  subjects: { honkbun: "honkbun", bare: "hand-written SQL", redis: "Redis streams" },
  questions: {
    publish: ask("publish, one by one", (log) => rate(1, () => log.publish(1))),
    publishMany: ask("publish, 1,000 at once", (log) => rate(BULK, () => log.publishMany(numbers(BULK)))),
    replay: ask("replay", async (log) => {
      for (let n = 0; n < EVENTS; n += BULK) await log.publishMany(numbers(BULK, n));
      const start = performance.now();
      const count = await log.replay();
      if (count !== EVENTS) throw new Error(`${count} events instead of ${EVENTS}`);
      return EVENTS / ((performance.now() - start) / 1_000);
    }),
  },
};

function ask(column: string, measure: (log: Log) => Promise<number>): Question {
  return {
    columns: [column],
    measure: async (subject, place) => {
      const log = await OPEN[subject]?.(place);
      if (log == null) return null;
      const figure = await measure(log);
      await log.close();
      return [figure];
    },
  };
}

const OPEN: Readonly<Record<string, (place: Place) => Promise<Log | null>>> = {
  async honkbun({ folder }) {
    const db = open(join(folder, "honkbun.db"));
    const stream = db.stream<ReturnType<typeof payload>>("events");
    return {
      publish: (n) => stream.publish(payload(n)),
      publishMany: (all) => stream.publishMany(all.map(payload)),
      replay: async () => {
        let count = 0;
        for await (const { payload: event } of stream.subscribe()) {
          if (event.to !== "" && ++count === EVENTS) break;
        }
        return count;
      },
      close: () => db.close(),
    };
  },
  async bare({ folder }) {
    const path = join(folder, "bare.db");
    await open(path).close();
    const database = new Database(path);
    database.run("PRAGMA synchronous = NORMAL");
    const insert = database.prepare(
      "INSERT INTO _honker_stream (topic, key, payload, created_at) VALUES (?, ?, ?, ?)",
    );
    const page = database.prepare<
      { offset: number; key: string | null; payload: string; created_at: number },
      [number]
    >(
      `SELECT offset, key, payload, created_at FROM _honker_stream WHERE topic = 'events' AND offset > ?
       ORDER BY offset LIMIT ${PAGE}`,
    );
    const publish = (n: number): unknown =>
      insert.run("events", null, JSON.stringify(payload(n)), Math.floor(Date.now() / 1_000));
    return {
      publish,
      publishMany: (all) => database.transaction(() => all.forEach(publish))(),
      replay: async () => {
        let [count, last] = [0, 0];
        for (let rows = page.all(last); rows.length > 0; rows = page.all(last)) {
          for (const row of rows) if (JSON.parse(row.payload).to !== "") count++;
          last = rows.at(-1)?.offset ?? last;
        }
        return count;
      },
      close: () => database.close(),
    };
  },
  async redis(place) {
    const client = await connectRedis(place);
    if (client === null) return null;
    const key = nameOf(place);
    const publish = (n: number): Promise<unknown> =>
      client.send("XADD", [key, "*", "payload", JSON.stringify(payload(n))]);
    return {
      publish,
      publishMany: (all) => Promise.all(all.map(publish)), // in one pipeline
      replay: async () => {
        let [count, last] = [0, "-"];
        for (;;) {
          const entries: [string, [string, string]][] = await client.send("XRANGE", [
            key,
            last,
            "+",
            "COUNT",
            `${PAGE}`,
          ]);
          for (const [, [, text]] of entries) if (JSON.parse(text).to !== "") count++;
          if (entries.length < PAGE) return count;
          last = `(${entries.at(-1)?.[0]}`;
        }
      },
      close: () => client.close(),
    };
  },
};
