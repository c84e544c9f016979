// What does `publish` cost beside a bare INSERT, what a replay beside a bare paged SELECT, and what a publish when a
// thousand subscribers follow other topics?
import { Database } from "bun:sqlite";

import { type Honkbun, open } from "honkbun";

import { Folder } from "../support/folder.ts";
import { nextTurn, payload, rounds, scaled, verdict } from "./support.ts";

const SLICE = scaled(500, 50);
const SLICES = scaled(20, 2);
const EVENTS = scaled(1_000_000, 2_000);
const PAGE = 500;
const TOPICS = scaled(1_000, 20);
const WAKES = scaled(300, 20);

using folder = new Folder();
using replayed = open(folder.file("replay.db"));
for (let from = 0; from < EVENTS; from += 50_000) {
  const events = Array.from({ length: Math.min(50_000, EVENTS - from) }, (_, n) => payload(from + n));
  replayed.stream("events").publishMany(events);
}

const figures = await rounds("streams", ["µs", "ratio"], async () => {
  const [bare, publish] = await publishing();
  const select = selecting();
  const replay = await replaying();
  const [one, many] = [await waking(1), await waking(TOPICS)];
  return {
    "bare INSERT": [bare, 1],
    publish: [publish, bare / publish],
    "bare paged SELECT, JSON.parse": [select, 1],
    replay: [replay, select / replay],
    "publish to subscriber, 1 topic": [one, 1],
    [`publish to subscriber, ${TOPICS} topics`]: [many, many / one],
  };
});
verdict("publish, rate / bare INSERT", figures("publish", "ratio"), "at least", 0.9);
verdict("replay, rate / bare paged SELECT", figures("replay", "ratio"), "at least", 0.6);
verdict(
  "publish beside idle subscribers, time / with one",
  figures(`publish to subscriber, ${TOPICS} topics`, "ratio"),
  "at most",
  2,
);

/** One per transaction, with the clock and the payload's JSON: bare, and by honkbun. */
async function publishing(): Promise<[number, number]> {
  using files = new Folder();
  open(files.file("bare.db")).close();
  using bare = new Database(files.file("bare.db"));
  bare.run("PRAGMA synchronous = NORMAL");
  const insert = bare.prepare(
    "INSERT INTO _honker_stream (topic, key, payload, created_at) VALUES (?, ?, ?, ?)",
  );
  using db = open(files.file("honkbun.db"));
  const stream = db.stream("events");
  const time = async (one: (event: unknown) => unknown): Promise<number> => {
    const start = performance.now();
    for (let n = 0; n < SLICE; n++) one(payload(n));
    await nextTurn();
    return ((performance.now() - start) * 1_000) / SLICE;
  };
  let [bareTime, publishTime] = [0, 0];
  for (let n = 0; n < SLICES; n++) {
    bareTime += await time((event) =>
      insert.run("events", null, JSON.stringify(event), Math.floor(Date.now() / 1_000)),
    );
    publishTime += await time((event) => stream.publish(event));
  }
  return [bareTime / SLICES, publishTime / SLICES];
}

function selecting(): number {
  using bare = new Database(folder.file("replay.db"));
  const page = bare.prepare<
    { offset: number; key: string | null; payload: string; created_at: number },
    [string, number, number]
  >(
    "SELECT offset, key, payload, created_at FROM _honker_stream WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?",
  );
  const start = performance.now();
  let count = 0;
  for (
    let after = 0, rows = page.all("events", after, PAGE);
    rows.length > 0;
    rows = page.all("events", after, PAGE)
  ) {
    for (const row of rows) if (JSON.parse(row.payload) !== null) count++;
    after = rows.at(-1)?.offset ?? after;
  }
  if (count !== EVENTS) throw new Error(`${count} events`);
  return ((performance.now() - start) * 1_000) / EVENTS;
}

async function replaying(): Promise<number> {
  const start = performance.now();
  let count = 0;
  for await (const { payload: event } of replayed.stream("events").subscribe()) {
    if (event !== null && ++count === EVENTS) break;
  }
  return ((performance.now() - start) * 1_000) / EVENTS;
}

/** From a publish to the event in the hands of the one who follows its topic, of so many who follow others. */
async function waking(topics: number): Promise<number> {
  using files = new Folder();
  await using db: Honkbun = open(files.file(), { wake: { safetyInterval: false } });
  const sources = Array.from({ length: topics }, (_, n) => db.stream<number>(`topic ${n}`).subscribe());
  const waiting = sources.map((source) => source.next());
  await nextTurn();
  const start = performance.now();
  for (let n = 0; n < WAKES; n++) {
    const index = n % topics;
    db.stream<number>(`topic ${index}`).publish(n);
    await waiting[index];
    waiting[index] = sources[index]?.next() as (typeof waiting)[number];
  }
  return ((performance.now() - start) * 1_000) / WAKES;
}
