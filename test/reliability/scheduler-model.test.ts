import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import { Timetable } from "../../src/scheduler/timetable.ts";
import { runs } from "../support/runs.ts";
import { openTwice } from "../support/two-handles.ts";

// Schedules by two handles of one file, and honker's, beside a model that finds boundaries by trying one time after the other.
const { numRuns, deadline } = runs(0.5);
const HANDLES = 2;
const NAMES = ["a", "b", "c"] as const;
const HONKERS = "honker's";
const QUEUE = "ticks";
const TICK = '"tick"';
/** Boundaries of a schedule of honker's that are made up for at most. */
const MOST_OF_HONKERS = 64;
const [SECOND, MINUTE, HOUR, DAY] = [1_000, 60_000, 3_600_000, 86_400_000];

/** Expressions, with what they mean: which of the times that divide by `step` they are. */
const CRONS = [
  { cron: "0 * * * *", step: HOUR, isBoundary: () => true, isByElapsedTime: true },
  { cron: "*/20 * * * *", step: 20 * MINUTE, isBoundary: () => true, isByElapsedTime: true },
  {
    cron: "30 2 * * *",
    step: 30 * MINUTE,
    isBoundary: (at: Date) => at.getUTCHours() === 2 && at.getUTCMinutes() === 30,
    isByElapsedTime: false,
  },
  {
    cron: "15 0 9 * * mon-fri",
    step: 15 * SECOND,
    isBoundary: (at: Date) =>
      at.getUTCHours() === 9 &&
      at.getUTCMinutes() === 0 &&
      at.getUTCSeconds() === 15 &&
      at.getUTCDay() % 6 !== 0,
    isByElapsedTime: false,
  },
  {
    cron: "0 0 L * *",
    step: DAY,
    isBoundary: (at: Date) => new Date(at.getTime() + DAY).getUTCDate() === 1,
    isByElapsedTime: false,
  },
];

interface Definition {
  /** Which expression, or milliseconds. */
  readonly when: { readonly cron: number } | { readonly every: number };
  readonly missed: "skip" | "latest" | { readonly all: number };
  /** Milliseconds from now. */
  readonly start: number | null;
  readonly end: number | null;
  readonly isEnabled: boolean | null;
  readonly payload: number;
  readonly key: string | null;
}

type Call =
  | { readonly call: "add"; readonly handle: number; readonly name: string; readonly definition: Definition }
  | {
      readonly call: "addAgain";
      readonly handle: number;
      readonly name: string;
      readonly isEnabled: boolean | null;
    }
  | {
      readonly call: "pause" | "resume" | "remove" | "trigger";
      readonly handle: number;
      readonly name: string;
    }
  | { readonly call: "next"; readonly handle: number; readonly name: string; readonly count: number }
  | { readonly call: "pass"; readonly handle: number; readonly by: number; readonly unseen: number }
  | { readonly call: "setBack"; readonly handle: number; readonly by: number }
  | { readonly call: "finish"; readonly handle: number }
  | { readonly call: "rollback"; readonly calls: readonly Call[] }
  | { readonly call: "honkerAdd"; readonly every: number }
  | { readonly call: "honkerTick" };

const handle = fc.nat({ max: HANDLES - 1 });
const name = fc.constantFrom(...NAMES);
const definition: fc.Arbitrary<Definition> = fc.record({
  when: fc.oneof(
    fc.record({ cron: fc.nat({ max: CRONS.length - 1 }) }),
    fc.record({ every: fc.constantFrom(1_500 * SECOND, 0.9 * DAY) }),
  ),
  missed: fc.oneof(
    fc.constantFrom("skip" as const, "latest" as const),
    fc.record({ all: fc.constantFrom(1, 3, 1_000) }),
  ),
  start: fc.constantFrom(null, null, null, -HOUR, 3 * HOUR),
  end: fc.constantFrom(null, null, null, 40 * DAY),
  isEnabled: fc.constantFrom(null, null, true, false),
  payload: fc.nat({ max: 3 }),
  key: fc.constantFrom(null, null, "k"),
});
const single: fc.Arbitrary<Call> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ call: fc.constant("add" as const), handle, name, definition }) },
  {
    weight: 4,
    arbitrary: fc.record({
      call: fc.constantFrom("pause" as const, "resume" as const, "remove" as const, "trigger" as const),
      handle,
      name: fc.constantFrom(...NAMES, HONKERS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      call: fc.constant("addAgain" as const),
      handle,
      name,
      isEnabled: fc.constantFrom(null, null, true, false),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ call: fc.constant("next" as const), handle, name, count: fc.nat({ max: 4 }) }),
  },
);
const passed = fc.constantFrom(0, 1, 59 * SECOND, 30 * MINUTE, HOUR, 5 * HOUR, 2 * DAY, 35 * DAY);
const calls: fc.Arbitrary<Call> = fc.oneof(
  { weight: 6, arbitrary: single },
  {
    weight: 5,
    arbitrary: fc.record({
      call: fc.constant("pass" as const),
      handle,
      by: passed,
      unseen: fc.constantFrom(0, 0, 0, 1, 10 * MINUTE, 3 * DAY),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("setBack" as const),
      handle,
      by: fc.constantFrom(MINUTE, HOUR, 3 * DAY),
    }),
  },
  { weight: 2, arbitrary: fc.record({ call: fc.constant("finish" as const), handle }) },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("rollback" as const),
      calls: fc.array(single, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ call: fc.constant("honkerAdd" as const), every: fc.constantFrom(5_000, 90_000) }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("honkerTick" as const) }) },
);

let now = Date.UTC(2026, 0, 1);
const { databases, honker, reader, close } = openTwice(() => now);
const failures: unknown[] = [];
const timetables = databases.map(() => new Timetable((error) => failures.push(error)));
afterAll(close);

interface Schedule {
  readonly definition: Definition;
  readonly anchor: number;
  readonly startAt: number | null;
  readonly endAt: number | null;
  isEnabled: boolean;
  /** Null: never again. */
  next: number | null;
}

interface HonkersSchedule {
  readonly every: number;
  isEnabled: boolean;
  /** Epoch seconds. */
  next: number;
}

interface FiredJob {
  readonly payload: string;
  readonly due: number;
  readonly key: string | null;
}

/** The first boundary after a time. */
function nextOf({ definition, anchor, startAt, endAt }: Schedule, after: number): number | null {
  const { when } = definition;
  const from = startAt === null ? after : Math.max(after, startAt - 1);
  let next: number;
  if ("every" in when) next = anchor + (Math.floor((from - anchor) / when.every) + 1) * when.every;
  else {
    const { step, isBoundary } = cronOf(when.cron);
    next = (Math.floor(from / step) + 1) * step;
    while (!isBoundary(new Date(next))) next += step;
  }
  return endAt !== null && next > endAt ? null : next;
}

function cronOf(index: number): (typeof CRONS)[number] {
  return CRONS[index] as (typeof CRONS)[number];
}

class Run {
  #schedules = new Map<string, Schedule>();
  #honkers: HonkersSchedule | null = null;
  #jobs: FiredJob[] = [];
  #isInside = false;

  constructor() {
    for (const table of ["_honker_live", "_honkbun_schedules", "_honker_scheduler_tasks"]) {
      reader.run(`DELETE FROM ${table}`);
    }
  }

  do(call: Call): void {
    this.#act(call);
    const jobs = reader.query<FiredJob, []>("SELECT payload, due, unique_key AS key FROM _honker_live").all();
    expect(inOrder(jobs)).toEqual(inOrder(this.#jobs));
    const infos = [...this.#schedules].map(([name, { isEnabled, next }]) => ({
      name,
      enabled: isEnabled,
      nextFireAt: isEnabled && next !== null ? new Date(next) : null,
    }));
    if (this.#honkers !== null) {
      const { isEnabled, next } = this.#honkers;
      const nextFireAt = isEnabled ? new Date(next * SECOND) : null;
      infos.push({ name: HONKERS, enabled: isEnabled, nextFireAt });
    }
    expect(databases[1]?.scheduler.list()).toEqual(infos.sort((a, b) => (a.name < b.name ? -1 : 1)));
    // What stands for no key is of no account any more.
    reader.run("DELETE FROM _honker_live WHERE unique_key IS NULL");
    this.#jobs = this.#jobs.filter(({ key }) => key !== null);
  }

  #act(call: Call): void {
    const handle = "handle" in call && !this.#isInside ? call.handle : 0;
    const db = databases[handle] as (typeof databases)[number];
    const timetable = timetables[handle] as Timetable;
    const { pool } = db.stream("any").context;
    switch (call.call) {
      case "add": {
        const { start, end } = call.definition;
        const [startAt, endAt] = [start, end].map((offset) => (offset === null ? null : now + offset));
        this.#add(db, call.name, call.definition, startAt ?? null, endAt ?? null);
        break;
      }
      case "addAgain": {
        const before = this.#schedules.get(call.name);
        if (before === undefined) break;
        const definition = { ...before.definition, isEnabled: call.isEnabled };
        this.#add(db, call.name, definition, before.startAt, before.endAt);
        break;
      }
      case "pause":
        this.#change(
          call.name,
          () => db.scheduler.pause(call.name),
          (schedule) => {
            schedule.isEnabled = false;
          },
        );
        break;
      case "resume":
        this.#change(
          call.name,
          () => db.scheduler.resume(call.name),
          (schedule) => {
            if (schedule.isEnabled) return;
            schedule.isEnabled = true;
            if ("definition" in schedule) schedule.next = nextOf(schedule, now);
            else schedule.next = nextOfHonkers(schedule, now);
          },
        );
        break;
      case "remove":
        db.scheduler.remove(call.name);
        this.#schedules.delete(call.name);
        if (call.name === HONKERS) this.#honkers = null;
        break;
      case "trigger":
        this.#change(
          call.name,
          () => db.scheduler.trigger(call.name),
          (schedule) => {
            if ("definition" in schedule) this.#fire(call.name, schedule, now);
            else this.#jobs.push({ payload: TICK, due: now, key: null });
          },
        );
        break;
      case "next": {
        const schedule = this.#schedules.get(call.name);
        if (schedule === undefined) break;
        const expected: Date[] = [];
        for (let next = nextOf(schedule, now); next !== null && expected.length < call.count;) {
          expected.push(new Date(next));
          next = nextOf(schedule, next);
        }
        expect(db.scheduler.next(call.name, call.count)).toEqual(expected);
        break;
      }
      case "pass": {
        now += call.by;
        const seenSince = call.unseen === 0 ? Number.NEGATIVE_INFINITY : now - call.unseen;
        while (pool.read((connection) => timetable.look(connection)).first <= now) {
          pool.writeAll(undefined, (connection) => timetable.fire(connection, now, seenSince, () => {}));
        }
        pool.writeAll(undefined, (connection) => timetable.fireHonkers(connection, now, () => {}));
        for (const [name, schedule] of this.#schedules) this.#fireDue(name, schedule, seenSince);
        this.#fireHonkers(MOST_OF_HONKERS, now);
        break;
      }
      case "setBack":
        now -= call.by;
        for (let after: string | null = ""; after !== null;) {
          after = pool.writeAll(undefined, (connection) =>
            timetable.followClock(connection, now, after as string),
          );
        }
        for (const schedule of this.#schedules.values()) {
          const { when } = schedule.definition;
          const isByElapsedTime = "every" in when || cronOf(when.cron).isByElapsedTime;
          if (!schedule.isEnabled || schedule.next === null || !isByElapsedTime) continue;
          schedule.next = Math.min(schedule.next, nextOf(schedule, now) ?? schedule.next);
        }
        break;
      case "finish": {
        const due = this.#jobs.filter((job) => job.due <= now);
        const queue = db.queue(QUEUE);
        expect(queue.ackBatch(queue.claimBatch(1_000))).toBe(due.length);
        this.#jobs = this.#jobs.filter((job) => job.due > now);
        break;
      }
      case "rollback":
        this.#rollBack(db, call.calls);
        break;
      case "honkerAdd":
        if (this.#honkers !== null) break;
        honker.schedule(HONKERS, QUEUE, call.every);
        this.#honkers = {
          every: call.every,
          isEnabled: true,
          next: Math.floor(now / SECOND) + call.every,
        };
        break;
      case "honkerTick":
        honker.tick();
        this.#fireHonkers(Number.POSITIVE_INFINITY, Math.floor(now / SECOND) * SECOND);
        break;
    }
  }

  #add(
    db: (typeof databases)[number],
    name: string,
    definition: Definition,
    startAt: number | null,
    endAt: number | null,
  ): void {
    const { when, missed, isEnabled, payload, key } = definition;
    db.scheduler.add(name, {
      ...("cron" in when ? { cron: cronOf(when.cron).cron, timezone: "UTC" } : { every: when.every }),
      queue: QUEUE,
      payload,
      missed,
      ...(key === null ? {} : { uniqueKey: `${key} of ${name}` }),
      ...(startAt === null ? {} : { startAt: new Date(startAt) }),
      ...(endAt === null ? {} : { endAt: new Date(endAt) }),
      ...(isEnabled === null ? {} : { enabled: isEnabled }),
    });
    const before = this.#schedules.get(name);
    const isSameTime =
      before !== undefined &&
      Bun.deepEquals([before.definition.when, before.startAt, before.endAt], [when, startAt, endAt]);
    const schedule: Schedule = {
      definition,
      startAt,
      endAt,
      anchor: startAt ?? (isSameTime ? before.anchor : now),
      isEnabled: isEnabled ?? before?.isEnabled ?? true,
      next: null,
    };
    const isResumed = before?.isEnabled === false && schedule.isEnabled;
    schedule.next = isSameTime && !isResumed ? before.next : nextOf(schedule, now);
    this.#schedules.set(name, schedule);
  }

  /** Calls of what is there do what they do; others say that it is not. */
  #change(name: string, real: () => unknown, model: (schedule: Schedule | HonkersSchedule) => void): void {
    const schedule = name === HONKERS ? this.#honkers : this.#schedules.get(name);
    if (schedule === undefined || schedule === null) expect(real).toThrow(RangeError);
    else {
      real();
      model(schedule);
    }
  }

  #fireDue(name: string, schedule: Schedule, seenSince: number): void {
    const { missed } = schedule.definition;
    if (!schedule.isEnabled) return;
    const boundaries: number[] = [];
    while (schedule.next !== null && schedule.next <= now) {
      boundaries.push(schedule.next);
      schedule.next = nextOf(schedule, schedule.next);
    }
    const seen = boundaries.filter((boundary) => boundary >= seenSince);
    const unseen = boundaries.filter((boundary) => boundary < seenSince);
    const isMadeUp = missed === "latest" && seen.length === 0;
    const count = missed === "skip" ? 0 : missed === "latest" ? (isMadeUp ? 1 : 0) : missed.all;
    for (const boundary of [...unseen.slice(Math.max(unseen.length - count, 0)), ...seen]) {
      this.#fire(name, schedule, boundary);
    }
  }

  #fire(name: string, { definition }: Schedule, due: number): void {
    const key = definition.key === null ? null : `${definition.key} of ${name}`;
    if (key !== null && this.#jobs.some((job) => job.key === key)) return;
    this.#jobs.push({ payload: String(definition.payload), due, key });
  }

  #fireHonkers(most: number, due: number): void {
    const schedule = this.#honkers;
    if (schedule === null || !schedule.isEnabled) return;
    let count = 0;
    for (; schedule.next * SECOND <= now && count < most; count++) {
      this.#jobs.push({ payload: TICK, due, key: null });
      schedule.next += schedule.every;
    }
    if (schedule.next * SECOND <= now) schedule.next = nextOfHonkers(schedule, now);
  }

  #rollBack(db: (typeof databases)[number], inner: readonly Call[]): void {
    const before = structuredClone([this.#schedules, this.#honkers, this.#jobs] as const);
    const undo = new Error("undone");
    this.#isInside = true;
    try {
      db.transaction(() => {
        for (const call of inner) this.#act(call);
        throw undo;
      });
    } catch (error) {
      if (error !== undo) throw error;
    }
    this.#isInside = false;
    [this.#schedules, this.#honkers, this.#jobs] = before;
  }
}

function nextOfHonkers({ next, every }: HonkersSchedule, after: number): number {
  const anchor = next * SECOND;
  const interval = every * SECOND;
  return Math.ceil((anchor + (Math.floor((after - anchor) / interval) + 1) * interval) / SECOND);
}

function inOrder(jobs: readonly FiredJob[]): string[] {
  return jobs.map(({ payload, due, key }) => `${due} ${payload} ${key}`).sort();
}

test(
  "schedules, and honker's, fire when the model says so",
  async () => {
    await fc.assert(
      fc.property(fc.array(calls, { maxLength: 40, size: "max" }), (sequence) => {
        now += 40 * DAY;
        const run = new Run();
        for (const call of sequence) run.do(call);
      }),
      { numRuns },
    );
    expect(failures).toEqual([]);
  },
  deadline,
);
