import { Database } from "bun:sqlite";
import { existsSync, watch } from "node:fs";
import { join } from "node:path";

import { open } from "honkbun";

import { within } from "../../../support/eventually.ts";
import { answer, say } from "../../../support/programs/channel.ts";
import { instant, percentile, scaled } from "../../support.ts";
import { nameOf, type Place, spawnHelper } from "../place.ts";
import { connectPostgres } from "../postgres.ts";
import { connectRedis } from "../redis.ts";
import type { Question, Topic } from "../topic.ts";

const SENDS = scaled(200, 5);
const WARM_UP = scaled(20, 2);
/** Milliseconds between two, at most. */
const PAUSE = 20;
const CHANNEL = "channel";
/** An event comes when frames are written, and a read then may find nothing yet: milliseconds until another read. */
const AGAIN = 50;

interface Channel {
  /** Has `heard` called for each notification. */
  listen(heard: () => void): unknown;
  /** Resolves once it is sent. */
  notify(n: number): unknown;
  close(): unknown;
}

/** From before the call that sends, in another process, until the last of so many listeners of one channel is called. */
export const pubsub: Topic = {
  title: "from notify to the last listener, two processes",
  unit: "milliseconds",
  isLess: true,
  subjects: {
    honkbun: "honkbun",
    bare: `fs.watch, a read per event, and every ${AGAIN} ms`,
    redis: "Redis pub/sub",
    postgres: "PostgreSQL LISTEN/NOTIFY",
  },
  questions: { one: ask(1), hundred: ask(100), many: ask(scaled(10_000, 100)) },
};

function ask(listeners: number): Question {
  const count = listeners === 1 ? "1 listener" : `${listeners.toLocaleString("en")} listeners`;
  return {
    columns: [`${count}, p50`, "p99"],
    measure: async (subject, place) => {
      const channel = await OPEN[subject]?.(place);
      if (channel == null) return null;
      let left = 0;
      let last = Promise.withResolvers<number>();
      for (let n = 0; n < listeners; n++) {
        await channel.listen(() => {
          if (--left === 0) last.resolve(instant());
        });
      }
      await using sender = spawnHelper("sender");
      await sender.read();
      const found: number[] = [];
      for (let n = 0; n < WARM_UP + SENDS; n++) {
        left = listeners;
        last = Promise.withResolvers();
        const called = within(last.promise, "the last listener is called");
        const [sent, at] = await Promise.all([sender.ask<number>(n), called]);
        if (n >= WARM_UP) found.push(at - sent);
        await Bun.sleep(PAUSE * (0.25 + 0.75 * Math.random()));
      }
      await channel.close();
      return [percentile(found, 0.5), percentile(found, 0.99)];
    },
    helpers: { sender: send },
  };
}

async function send(subject: string, place: Place): Promise<void> {
  const channel = await OPEN[subject]?.(place);
  say("ready");
  await answer(async (n: number) => {
    const sent = instant();
    await channel?.notify(n);
    return sent;
  });
}

const OPEN: Readonly<Record<string, (place: Place) => Promise<Channel | null>>> = {
  async honkbun({ folder }) {
    const db = open(join(folder, "honkbun.db"));
    return {
      listen: (heard) => db.listen(CHANNEL, heard),
      notify: (n) => db.notify(CHANNEL, n),
      close: () => db.close(),
    };
  },
  async bare({ folder }) {
    const path = join(folder, "bare.db");
    if (!existsSync(path)) await open(path).close();
    const database = new Database(path);
    database.run("PRAGMA synchronous = NORMAL");
    const insert = database.prepare("INSERT INTO _honker_notifications (channel, payload) VALUES (?, ?)");
    const select = database.prepare<{ id: number; payload: string }, [string, number]>(
      "SELECT id, payload FROM _honker_notifications WHERE channel = ? AND id > ?",
    );
    const listeners: ((payload: unknown) => void)[] = [];
    const watching = new DisposableStack();
    let seen = 0;
    const look = (): void => {
      for (const { id, payload } of select.all(CHANNEL, seen)) {
        seen = id;
        const value: unknown = JSON.parse(payload);
        for (const heard of listeners) heard(value);
      }
    };
    return {
      listen: (heard) => {
        if (listeners.push(heard) > 1) return;
        look(); // which opens the WAL
        watching.adopt(watch(`${path}-wal`, look), (watcher) => watcher.close());
        watching.adopt(setInterval(look, AGAIN), clearInterval);
      },
      notify: (n) => insert.run(CHANNEL, `${n}`),
      close: () => {
        watching.dispose();
        database.close();
      },
    };
  },
  async redis(place) {
    const [publisher, subscriber] = [await connectRedis(place), await connectRedis(place)];
    if (publisher === null || subscriber === null) return null;
    const channel = nameOf(place);
    const listeners: (() => void)[] = [];
    return {
      listen: async (heard) => {
        if (listeners.push(heard) > 1) return;
        await subscriber.subscribe(channel, () => {
          for (const listener of listeners) listener();
        });
      },
      notify: (n) => publisher.publish(channel, `${n}`),
      close: () => {
        publisher.close();
        subscriber.close();
      },
    };
  },
  async postgres(place) {
    const client = await connectPostgres(place);
    if (client === null) return null;
    const channel = nameOf(place);
    let isListening = false;
    return {
      listen: async (heard) => {
        client.setMaxListeners(0);
        client.on("notification", heard);
        if (!isListening) await client.query(`LISTEN ${channel}`);
        isListening = true;
      },
      notify: (n) => client.query("SELECT pg_notify($1, $2)", [channel, `${n}`]),
      close: () => client.end(),
    };
  },
};
