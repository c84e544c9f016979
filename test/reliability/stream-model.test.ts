import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import {
  OffsetTrimmedError,
  open,
  type Running,
  type Stream,
  type StreamEvent,
  type StreamSource,
} from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { runs } from "../support/runs.ts";

// A stream by two handles of one file, and honker's statements, beside a model: who processes, subscribes or is a member of a group
// does so by its own loop, and each call waits until the loops have nothing left to do.
const { numRuns, deadline } = runs(0.25);
const HANDLES = 2;
const KEYS = ["a", "b", null] as const;
const PROJECTION = "projection";
const READER = "reader";
const GROUP = "group";
const MAX_DELIVERIES = 2;

interface Payload {
  /** So many deliveries of it fail in a group. */
  readonly fails: number;
  /** No processor can handle it. */
  readonly isBad: boolean;
}

type Key = (typeof KEYS)[number];

interface NewEvent extends Payload {
  readonly key: Key;
}

type Call =
  | { readonly call: "publish"; readonly handle: number; readonly events: readonly NewEvent[] }
  | { readonly call: "rollback"; readonly handle: number; readonly event: NewEvent; readonly back: number }
  | { readonly call: "publishAndSeek"; readonly handle: number; readonly event: NewEvent }
  | { readonly call: "read"; readonly handle: number; readonly back: number; readonly key: Key }
  | { readonly call: "process" | "member" | "subscribe"; readonly handle: number }
  | { readonly call: "next" | "break" | "save"; readonly handle: number }
  | {
      readonly call: "seek";
      readonly handle: number;
      readonly consumer: typeof PROJECTION | typeof READER;
      readonly to: "start" | "end" | number;
    }
  | { readonly call: "trim"; readonly handle: number; readonly keep: number; readonly past: boolean }
  | { readonly call: "revive" | "purge"; readonly handle: number }
  | { readonly call: "honkerPublish"; readonly event: NewEvent }
  | { readonly call: "honkerSave"; readonly back: number };

const handle = fc.nat({ max: HANDLES - 1 });
const back = fc.nat({ max: 5 });
const event: fc.Arbitrary<NewEvent> = fc.record({
  key: fc.constantFrom(...KEYS),
  fails: fc.constantFrom(0, 0, 0, 1, 2),
  isBad: fc.constantFrom(false, false, false, true),
});
const weighted = <T>(
  weight: number,
  arbitrary: fc.Arbitrary<T>,
): { weight: number; arbitrary: fc.Arbitrary<T> } => ({
  weight,
  arbitrary,
});
const named = <const T extends string>(...names: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...names);
const calls: fc.Arbitrary<Call> = fc.oneof(
  weighted(
    6,
    fc.record({ call: named("publish"), handle, events: fc.array(event, { minLength: 1, maxLength: 5 }) }),
  ),
  weighted(1, fc.record({ call: named("rollback"), handle, event, back })),
  weighted(1, fc.record({ call: named("publishAndSeek"), handle, event })),
  weighted(1, fc.record({ call: named("read"), handle, back, key: fc.constantFrom(...KEYS) })),
  weighted(4, fc.record({ call: named("process", "member", "subscribe"), handle })),
  weighted(6, fc.record({ call: named("next", "next", "next", "break", "save"), handle })),
  weighted(
    2,
    fc.record({
      call: named("seek"),
      handle,
      consumer: named(PROJECTION, READER),
      to: fc.oneof(named("start", "end"), back),
    }),
  ),
  weighted(2, fc.record({ call: named("trim"), handle, keep: fc.nat({ max: 4 }), past: fc.boolean() })),
  weighted(1, fc.record({ call: named("revive", "purge"), handle })),
  weighted(1, fc.record({ call: named("honkerPublish"), event })),
  weighted(1, fc.record({ call: named("honkerSave"), back })),
);

const folder = new Folder();
const errors: unknown[] = [];
const databases = Array.from({ length: HANDLES }, () => {
  const db = open(folder.file(), { wake: { safetyInterval: false } });
  db.on("error", ({ error }) => errors.push(error));
  return db;
});
const honker = new Database(folder.file());
honker.run("PRAGMA busy_timeout = 5000");
honker.run("CREATE TABLE effects (topic TEXT, offset INTEGER)");
afterAll(() => {
  honker.close();
  for (const db of databases) db.close();
  folder[Symbol.dispose]();
});

interface StoredEvent extends NewEvent {
  readonly offset: number;
}

/** How far a subscription is: what it has read and not handed out, and what it has handed out last. */
interface Reading {
  readonly source: StreamSource<Payload>;
  position: number;
  buffer: StoredEvent[];
  current: number | null;
  handled: number;
  /** Until it has read: up to here, what is trimmed was there to be trimmed when it began with whatever was left. */
  present: number;
  /** Its consumer was sent elsewhere meanwhile: what it gives next depends on whether it knows by now. */
  isSought: boolean;
}

/** One sequence of calls, on a topic of its own and on the model. */
class Run {
  readonly #topic: string;
  readonly #streams: readonly Stream<Payload>[];
  readonly #isOrdered: boolean;

  // The model: what there is, and how far everybody is.
  #events: StoredEvent[] = [];
  #last = Run.#lastOffset();
  #trimmed = 0;
  /** Of each consumer that has saved one, the offset. */
  readonly #saved = new Map<string, number>();
  #handedOn: number | null = null;
  readonly #effects: number[] = [];
  readonly #deadOfProjection: number[] = [];
  /** Offset and number of each delivery, in the order in which they have to come for each key. */
  readonly #deliveries: string[] = [];
  #deadOfGroup: StoredEvent[] = [];
  /** Handed on, while nobody is a member. */
  #waiting: StoredEvent[] = [];

  readonly #processors: (Running | undefined)[] = [];
  readonly #members: (Running | undefined)[] = [];
  readonly #readings: (Reading | undefined)[] = [];
  readonly #delivered: string[] = [];
  readonly #inHand = new Set<string>();
  /** Of each key, the event delivered last; older ones come again only when they were dead. */
  readonly #lastOf = new Map<string, number>();
  readonly #revived = new Set<number>();
  /** Delivered beside another one of their key, or after a later one. */
  readonly #misplaced: number[] = [];

  constructor(topic: string, isOrdered: boolean) {
    this.#topic = topic;
    this.#isOrdered = isOrdered;
    this.#streams = databases.map((db) => db.stream<Payload>(topic));
  }

  static #lastOffset(): number {
    const sql = "SELECT seq FROM sqlite_sequence WHERE name = '_honker_stream'";
    return honker.query<{ seq: number }, []>(sql).get()?.seq ?? 0;
  }

  async do(call: Call): Promise<void> {
    await this.#compare(call);
    await this.#settle();
  }

  async end(): Promise<void> {
    for (const handle of databases.keys()) await this.#break(handle);
    await Promise.all([...this.#processors, ...this.#members].map((running) => running?.stop()));
  }

  async #compare(call: Call): Promise<void> {
    const stream = this.#streams["handle" in call ? call.handle : 0] as Stream<Payload>;
    const db = databases["handle" in call ? call.handle : 0];
    switch (call.call) {
      case "publish": {
        const offsets =
          call.events.length === 1
            ? call.events.map(({ key, ...payload }) => stream.publish(payload, key === null ? {} : { key }))
            : db?.transaction(() =>
                call.events.map(({ key, ...payload }) =>
                  stream.publish(payload, key === null ? {} : { key }),
                ),
              );
        expect(offsets).toEqual(call.events.map((event) => this.#add(event)));
        break;
      }
      case "rollback": {
        const undo = new Error("undone");
        const { key: _, ...payload } = call.event;
        const act = (): void =>
          db?.transaction(() => {
            stream.publish(payload);
            stream.seek(PROJECTION, Math.max(this.#last - call.back, 0));
            throw undo;
          });
        expect(act).toThrow(undo);
        break;
      }
      case "publishAndSeek": {
        const { key, ...payload } = call.event;
        db?.transaction(() => {
          stream.publish(payload, key === null ? {} : { key });
          stream.seek(PROJECTION, "end");
        });
        this.#add(call.event);
        this.#saved.set(PROJECTION, this.#last);
        break;
      }
      case "read": {
        const after = Math.max(this.#last - call.back, 0);
        const found = stream.read({ after, ...(call.key === null ? {} : { key: call.key }) });
        const expected = this.#events.filter(
          ({ offset, key }) => offset > after && (call.key === null || key === call.key),
        );
        expect(found.map(toStored)).toEqual(expected);
        expect(stream.length()).toBe(this.#events.length);
        expect(stream.last()?.offset).toBe(this.#events.at(-1)?.offset as number);
        break;
      }
      case "process":
        await this.#toggleProcessor(call.handle, stream);
        break;
      case "member":
        await this.#toggleMember(call.handle, stream);
        break;
      case "subscribe":
        await this.#subscribe(call.handle, stream);
        break;
      case "next":
        await this.#next(call.handle);
        break;
      case "break":
        await this.#break(call.handle);
        break;
      case "save": {
        const reading = this.#readings[call.handle];
        if (reading === undefined || reading.isSought) break;
        reading.source.save();
        this.#handle(reading);
        this.#save(READER, reading.handled);
        break;
      }
      case "seek": {
        const to = typeof call.to === "number" ? Math.max(this.#last - call.to, 0) : call.to;
        stream.seek(call.consumer, to);
        this.#saved.set(call.consumer, to === "start" ? this.#trimmed : to === "end" ? this.#last : to);
        if (call.consumer === READER) {
          for (const reading of this.#readings) if (reading !== undefined) reading.isSought = true;
        } else if (this.#processors.some(Boolean) && this.#isBehind(PROJECTION)) await this.#expectTrimmed();
        break;
      }
      case "trim":
        await this.#trim(stream, call.keep, call.past);
        break;
      case "revive": {
        const { dead } = stream.group(GROUP);
        if (this.#handedOn === null) break;
        expect(dead.retry("all")).toBe(this.#deadOfGroup.length);
        this.#waiting.push(...this.#deadOfGroup);
        for (const { offset } of this.#deadOfGroup) this.#revived.add(offset);
        this.#deadOfGroup = [];
        break;
      }
      case "purge":
        expect(stream.group(GROUP).dead.purge("all")).toBe(this.#deadOfGroup.length);
        this.#deadOfGroup = [];
        break;
      case "honkerPublish": {
        const { key, ...payload } = call.event;
        honker
          .query("INSERT INTO _honker_stream (topic, key, payload, created_at) VALUES (?, ?, ?, unixepoch())")
          .run(this.#topic, key, JSON.stringify(payload));
        this.#add(call.event);
        break;
      }
      case "honkerSave": {
        const offset = Math.max(this.#last - call.back, 0);
        honker
          .query(
            `INSERT INTO _honker_stream_consumers (name, topic, offset) VALUES (?, ?, ?)
             ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset WHERE excluded.offset > offset`,
          )
          .run(PROJECTION, this.#topic, offset);
        this.#save(PROJECTION, offset);
        if (this.#processors.some(Boolean) && this.#isBehind(PROJECTION)) await this.#expectTrimmed();
        break;
      }
    }
  }

  #add(event: NewEvent): number {
    const offset = ++this.#last;
    this.#events.push({ ...event, offset });
    return offset;
  }

  #save(consumer: string, offset: number): void {
    this.#saved.set(consumer, Math.max(this.#saved.get(consumer) ?? offset, offset));
  }

  #isBehind(consumer: string): boolean {
    return (this.#saved.get(consumer) ?? this.#trimmed) < this.#trimmed;
  }

  async #toggleProcessor(handle: number, stream: Stream<Payload>): Promise<void> {
    const running = this.#processors[handle];
    if (running !== undefined) {
      this.#processors[handle] = undefined;
      await within(running.stop(), "the processor has stopped");
      return;
    }
    this.#processors[handle] = stream.process(
      PROJECTION,
      ({ offset, payload }, tx) => {
        tx.run("INSERT INTO effects VALUES (?, ?)", [this.#topic, offset]);
        if (payload.isBad) throw new Error("bad");
      },
      { onError: "dead" },
    );
    if (this.#isBehind(PROJECTION)) await this.#expectTrimmed();
  }

  /** All who process are told that events are gone that were to come; they go on from what is left. */
  async #expectTrimmed(): Promise<void> {
    for (const [handle, running] of this.#processors.entries()) {
      if (running === undefined) continue;
      this.#processors[handle] = undefined;
      expect(await failureOf(running.stopped)).toBeInstanceOf(OffsetTrimmedError);
    }
    this.#streams[0]?.seek(PROJECTION, "start");
    this.#saved.set(PROJECTION, this.#trimmed);
  }

  async #toggleMember(handle: number, stream: Stream<Payload>): Promise<void> {
    const running = this.#members[handle];
    if (running !== undefined) {
      this.#members[handle] = undefined;
      await within(running.stop(), "the member has stopped");
      return;
    }
    this.#handedOn ??= this.#trimmed;
    this.#members[handle] = stream.group(GROUP).work(
      async ({ offset, key, payload }, { attempt }) => {
        const hand = key ?? `none ${offset}`;
        const isEarly = (this.#lastOf.get(hand) ?? 0) <= offset || this.#revived.has(offset);
        if (this.#isOrdered && (this.#inHand.has(hand) || !isEarly)) this.#misplaced.push(offset);
        this.#inHand.add(hand);
        this.#lastOf.set(hand, offset);
        this.#delivered.push(`${offset} ${attempt}`);
        await new Promise((resolve) => setImmediate(resolve));
        this.#inHand.delete(hand);
        if (attempt <= payload.fails) throw new Error("not yet");
      },
      {
        concurrency: 3,
        order: this.#isOrdered ? "key" : "none",
        maxDeliveries: MAX_DELIVERIES,
        backoff: { type: "fixed", base: 0, jitter: 0 },
      },
    );
  }

  async #subscribe(handle: number, stream: Stream<Payload>): Promise<void> {
    if (this.#readings[handle] !== undefined) return;
    const source = stream.subscribe({ consumer: READER });
    const position = this.#saved.get(READER) ?? this.#trimmed;
    this.#readings[handle] = {
      source,
      position,
      present: this.#saved.has(READER) ? 0 : this.#last,
      buffer: [],
      current: null,
      handled: position,
      isSought: false,
    };
    this.#save(READER, position);
    await eventually(() => stream.consumers().some(({ name }) => name === READER), "the reader is known");
  }

  async #next(handle: number): Promise<void> {
    const reading = this.#readings[handle];
    if (reading === undefined || reading.isSought) return;
    if (reading.buffer.length === 0) {
      const isPassed = this.#trimmed > reading.position && this.#trimmed <= reading.present;
      if (this.#trimmed > reading.position && !isPassed) {
        this.#readings[handle] = undefined;
        this.#handle(reading);
        this.#save(READER, reading.handled);
        expect(await failureOf(reading.source.next())).toBeInstanceOf(OffsetTrimmedError);
        await reading.source.return?.();
        return;
      }
      reading.buffer = this.#events.filter(({ offset }) => offset > reading.position);
      if (reading.buffer.length === 0) return;
      if (isPassed) reading.handled = this.#trimmed;
      reading.present = 0;
      reading.position = reading.buffer.at(-1)?.offset ?? reading.position;
    }
    this.#handle(reading);
    const expected = reading.buffer.shift() as StoredEvent;
    const { value } = await within(reading.source.next(), "the next event");
    expect(toStored(value)).toEqual(expected);
    reading.current = expected.offset;
  }

  #handle(reading: Reading): void {
    if (reading.current === null) return;
    reading.handled = reading.current;
    reading.current = null;
  }

  async #break(handle: number): Promise<void> {
    const reading = this.#readings[handle];
    if (reading === undefined) return;
    this.#readings[handle] = undefined;
    await reading.source.return?.();
    if (!reading.isSought) this.#save(READER, reading.handled);
    this.#expectSaved(READER);
  }

  async #trim(stream: Stream<Payload>, keep: number, past: boolean): Promise<void> {
    // A reader saves now and then by itself how far it is.
    const saved = stream.consumers().find(({ name }) => name === READER)?.offset;
    if (saved !== undefined) {
      const handled = this.#readings.flatMap((reading) => reading?.handled ?? []);
      expect(saved).toBeLessThanOrEqual(Math.max(this.#saved.get(READER) ?? 0, ...handled));
      expect(saved).toBeGreaterThanOrEqual(this.#saved.get(READER) ?? 0);
      this.#saved.set(READER, saved);
    }
    const floor = Math.min(...this.#saved.values(), this.#handedOn ?? Number.POSITIVE_INFINITY);
    const surplus = this.#events.slice(0, Math.max(this.#events.length - keep, 0));
    const removed = surplus.filter(({ offset }) => past || offset <= floor);
    expect(stream.trim({ maxCount: keep }, { pastConsumers: past })).toBe(removed.length);
    this.#events = this.#events.slice(removed.length);
    this.#trimmed = removed.at(-1)?.offset ?? this.#trimmed;
  }

  /** Waits until the loops have done what the model says, and compares. */
  async #settle(): Promise<void> {
    const stream = this.#streams[0] as Stream<Payload>;
    if (this.#processors.some(Boolean)) {
      const position = this.#saved.get(PROJECTION) ?? this.#trimmed;
      for (const { offset, isBad } of this.#events.filter(({ offset }) => offset > position)) {
        (isBad ? this.#deadOfProjection : this.#effects).push(offset);
        this.#saved.set(PROJECTION, offset);
      }
      this.#save(PROJECTION, position);
      await this.#until(() => this.#savedBy(PROJECTION) === this.#saved.get(PROJECTION), "all is processed");
    }
    if (this.#members.some(Boolean)) {
      const { fresh, position } = this.#toHandOn();
      this.#handedOn = position;
      for (const event of [...this.#waiting, ...fresh]) this.#deliver(event);
      this.#waiting = [];
      const group = stream.group(GROUP);
      await this.#until(() => group.pending() + group.lag() === 0, "all is delivered");
      await this.#until(() => this.#delivered.length >= this.#deliveries.length, "it is known here");
    }
    this.#expectSaved(PROJECTION);
    const effects = honker
      .query<{ offset: number }, [string]>("SELECT offset FROM effects WHERE topic = ? ORDER BY rowid")
      .all(this.#topic);
    expect(effects.map(({ offset }) => offset)).toEqual(this.#effects);
    expect(offsetsOf(stream.group(PROJECTION).dead.list({ limit: 1_000 }))).toEqual(
      sorted(this.#deadOfProjection),
    );
    expect(sorted(this.#delivered)).toEqual(sorted(this.#deliveries));
    expect(this.#misplaced).toEqual([]);
    expect(offsetsOf(stream.group(GROUP).dead.list({ limit: 1_000 }))).toEqual(
      sorted(this.#deadOfGroup.map(({ offset }) => offset)),
    );
    const lag =
      this.#waiting.length + this.#events.filter(({ offset }) => offset > (this.#handedOn ?? 0)).length;
    expect([stream.group(GROUP).lag(), stream.group(GROUP).pending()]).toEqual([lag, 0]);
  }

  #toHandOn(): { fresh: StoredEvent[]; position: number } {
    const position = this.#handedOn ?? 0;
    const fresh = this.#events.filter(({ offset }) => offset > position);
    return { fresh, position: fresh.at(-1)?.offset ?? position };
  }

  #deliver(event: StoredEvent): void {
    for (let attempt = 1; attempt <= Math.min(event.fails + 1, MAX_DELIVERIES); attempt++) {
      this.#deliveries.push(`${event.offset} ${attempt}`);
    }
    if (event.fails >= MAX_DELIVERIES) this.#deadOfGroup.push(event);
  }

  #savedBy(consumer: string): number | undefined {
    return this.#streams[1]?.consumers().find(({ name }) => name === consumer)?.offset;
  }

  #expectSaved(consumer: string): void {
    expect([consumer, this.#savedBy(consumer)]).toEqual([consumer, this.#saved.get(consumer)]);
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    for (let turn = 0; turn < 20; turn++) {
      if (condition()) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually(condition, what);
  }
}

function toStored({ offset, key, payload }: StreamEvent<Payload>): StoredEvent {
  return { key: key as Key, ...payload, offset };
}

function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return within(promise, "the end").then(
    () => "none",
    (error: unknown) => error,
  );
}

function offsetsOf(events: readonly StreamEvent<unknown>[]): number[] {
  return events.map(({ offset }) => offset);
}

function sorted<T extends number | string>(values: readonly T[]): T[] {
  return values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

let topics = 0;
test(
  "streams, their consumers and groups do what the model does",
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(calls, { maxLength: 30, size: "max" }),
        fc.boolean(),
        async (sequence, isOrdered) => {
          const run = new Run(`topic ${topics++}`, isOrdered);
          try {
            for (const call of sequence) await run.do(call);
          } finally {
            await run.end();
          }
        },
      ),
      { numRuns },
    );
    const unexpected = errors.filter(
      (error) => !(error instanceof OffsetTrimmedError || (error as Error).message === "not yet"),
    );
    expect(unexpected).toEqual([]);
  },
  deadline,
);
