import { expect, test } from "bun:test";

import * as fc from "fast-check";

import { type Honkbun, open } from "../../src/index.ts";
import { runs } from "../support/runs.ts";

// Names, keys, labels and payloads of any characters: they come back as they were, and never become SQL.
const { numRuns, deadline } = runs(0.025);

const NAMES = [
  "'; DROP TABLE _honker_live; --",
  '"x"',
  "[x]",
  "`x`",
  "x'y''z",
  "*/ x /* --",
  "a;b",
  "%_*?[a-z]",
  "\n\r\t",
  "👩‍👩‍👧",
  "a\0b",
  "_honker_live",
  "rowid",
  "a~0123456789abcdef.1",
  "a:%2F:b",
  "\\",
  "?1 :now @x $1",
  "x".repeat(200),
];

/** What comes back of a name that was given wherever one is taken. Each part of it is the name, or the test fails. */
function roundTrip(db: Honkbun, name: string): unknown[] {
  const queue = db.queue<string>(name);
  const id = queue.enqueue(name, { group: name, uniqueKey: name });
  const [job] = queue.claimBatch(name, 1);
  job?.progress(name);
  job?.retry({ error: name, delay: 0 });
  const [again] = queue.claimBatch(1, { worker: name });
  const info = queue.get(id);
  again?.fail(name);
  const dead = queue.dead.list();
  expect([queue.dead.retry("all"), queue.enqueue("second", { uniqueKey: name }), queue.clear()]).toEqual([
    1,
    id,
    1,
  ]);

  const stream = db.stream<string>(name);
  const offset = stream.publish(name, { key: name });
  stream.seek(name, offset);
  const [event] = stream.read({ key: name, after: offset - 1 });

  const lock = db.tryLock(name, { owner: name });
  const held = db.locks.list();
  db.transaction(() => lock?.guard());
  lock?.release();

  db.scheduler.add(name, { every: "1h", queue: name, payload: name, group: name });
  const scheduled = queue.get(db.scheduler.trigger(name));
  const schedules = db.scheduler.list().map((schedule) => schedule.name);
  db.scheduler.remove(name);
  queue.clear();

  db.notify(name, name);
  const notified = db.sqlite
    .query("SELECT channel, payload FROM _honker_notifications ORDER BY id DESC")
    .values()[0];

  return [
    [job?.queue, job?.payload, info?.queue, info?.progress],
    [...(info?.errors ?? []), ...(dead[0]?.errors ?? [])].map(({ message }) => message),
    [dead[0]?.payload, event?.topic, event?.key, event?.payload],
    [stream.consumers()[0]?.name, held[0]?.name, held[0]?.owner],
    [scheduled?.queue, scheduled?.payload, ...schedules],
    [notified?.[0], JSON.parse(String(notified?.[1]))],
  ].flat();
}

function assertRoundTrip(db: Honkbun, name: string): void {
  const found = roundTrip(db, name);
  expect(found).toEqual(Array.from({ length: 19 }, () => name));
}

test.each(NAMES)("the name %j comes back as it was, from everywhere", (name) => {
  using db = open(":memory:");
  assertRoundTrip(db, name);
  expect(db.check().findings).toEqual([]);
});

test(
  "so does any name",
  () => {
    using db = open(":memory:");
    const part = fc.oneof(fc.constantFrom(...NAMES.slice(0, -1)), fc.string({ unit: "binary" }));
    const name = fc.tuple(part, part).map((parts) => parts.join(""));
    void fc.assert(
      fc.property(
        name.filter((text) => text !== ""),
        (text) => assertRoundTrip(db, text),
      ),
      { numRuns },
    );
    expect(db.check().findings).toEqual([]);
  },
  deadline,
);

test.each(NAMES)("two names that share the beginning %j count and lock apart", (name) => {
  using db = open(":memory:");
  for (const suffix of ["", "\0", " ", "'", "a"]) {
    const limit = db.rateLimit(name + suffix, { limit: 1, per: "1h" });
    const found = [limit.try(), limit.try(), limit.try({ key: name }), limit.try({ key: name })];
    expect(found.map(({ allowed }) => allowed)).toEqual([true, false, true, false]);
    expect(db.tryLock(name + suffix)).not.toBeNull();
    expect(db.queue(name + suffix).tryEnqueue(1, { uniqueKey: name }).created).toBe(true);
    expect(db.queue("one").tryEnqueue(1, { uniqueKey: name + suffix }).created).toBe(true);
  }
});

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

test.each(NAMES.filter((name) => !name.includes("\0")))(
  "a table and columns named like %j are captured",
  (name) => {
    using db = open(":memory:");
    // A name of its own, because honkbun's are refused.
    const [table, column] = [`t ${name}`, `c ${name}`];
    db.sqlite.run(`CREATE TABLE ${quote(table)} (${quote(column)} TEXT PRIMARY KEY, other)`);
    const when = "new.other IS NOT ';' /* ' */";
    for (const into of [{ stream: name }, { channel: name }, { queue: name }]) {
      db.capture.add(table, { on: ["insert"], columns: [column], when, into });
      db.sqlite.run(`INSERT INTO ${quote(table)} VALUES (?, 1)`, [name + Object.keys(into)[0]]);
    }
    const change = (row: string): object => ({
      operation: "insert",
      table,
      new: { [column]: name + row },
      old: null,
    });
    expect(db.stream(name).last()).toMatchObject({ key: `${name}stream`, payload: change("stream") });
    expect(db.queue(name).list()).toMatchObject([{ payload: change("queue") }]);
    expect(db.sqlite.query("SELECT channel FROM _honker_notifications").values()).toEqual([[name]]);
    expect(db.capture.list()).toEqual([{ table, on: ["insert"], into: `queue ${name}` }]);
    db.capture.remove(table);
    expect([db.capture.list(), db.check().findings]).toEqual([[], []]);
  },
);
