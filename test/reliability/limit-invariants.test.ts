import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import { ClaimLostError, type Honkbun, type Job } from "../../src/index.ts";
import { runs } from "../support/runs.ts";
import { openTwice } from "../support/two-handles.ts";

// What has to hold of groups, limits and retention whatever two handles and honker call: looked at in the rows after each call.
const { numRuns, deadline } = runs(0.5);
const HANDLES = 2;
const NAME = "limited";
const PER = 10_000;
const VISIBILITY = 20_000;
const MOST = 100;

type Call =
  | {
      readonly call: "enqueue";
      readonly handle: number;
      readonly group: string | null;
      readonly delay: number;
      readonly priority: number;
      readonly isAfter: boolean;
    }
  | { readonly call: "claim"; readonly handle: number; readonly count: number }
  | { readonly call: "ack" | "fail" | "retry" | "snooze"; readonly pick: number; readonly delay: number }
  | { readonly call: "cancel" | "revive"; readonly handle: number; readonly pick: number }
  | { readonly call: "clear"; readonly handle: number }
  | { readonly call: "limit"; readonly handle: number; readonly limits: Limits }
  | { readonly call: "advance"; readonly by: number }
  | { readonly call: "rollback"; readonly calls: readonly Call[] }
  | { readonly call: "honkerClaim" }
  | { readonly call: "honkerAck" | "honkerFail"; readonly pick: number };

interface Limits {
  readonly concurrency?: number | null;
  readonly groupConcurrency?: number;
  /** How many within `PER`. */
  readonly rate?: number | null;
  readonly keepCompleted?: number;
  readonly keepDead?: number;
}

const handle = fc.nat({ max: HANDLES - 1 });
const pick = fc.nat({ max: 5 });
const single: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      call: fc.constant("enqueue" as const),
      handle,
      group: fc.constantFrom(null, "a", "a", "b"),
      delay: fc.constantFrom(0, 0, 0, 1_500, 30_000),
      priority: fc.constantFrom(0, 0, 5),
      isAfter: fc.constantFrom(false, false, false, true),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      call: fc.constant("claim" as const),
      handle,
      count: fc.constantFrom(1, 2, MOST),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      call: fc.constantFrom(
        "ack" as const,
        "ack" as const,
        "fail" as const,
        "retry" as const,
        "snooze" as const,
      ),
      pick,
      delay: fc.constantFrom(0, 2_000, 30_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      call: fc.constantFrom("cancel" as const, "revive" as const),
      handle,
      pick,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      call: fc.constant("limit" as const),
      handle,
      limits: fc.record(
        {
          concurrency: fc.constantFrom(null, 1, 2, 3),
          groupConcurrency: fc.constantFrom(1, 2, 3),
          rate: fc.constantFrom(null, 1, 3),
          keepCompleted: fc.constantFrom(0, 1, 3),
          keepDead: fc.constantFrom(0, 2),
        },
        { requiredKeys: [] },
      ),
    }),
  },
);
const calls: fc.Arbitrary<Call> = fc.oneof(
  { weight: 12, arbitrary: single },
  {
    weight: 3,
    arbitrary: fc.record({
      call: fc.constant("advance" as const),
      by: fc.constantFrom(1, 1_000, 5_000, 12_000, 40_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("clear" as const), handle }) },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("rollback" as const),
      calls: fc.array(single, { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("honkerClaim" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ call: fc.constantFrom("honkerAck" as const, "honkerFail" as const), pick }),
  },
);

// Ahead of the system's clock, by which triggers count the turn of a group after an end by honker.
let now = Math.ceil(Date.now() / 86_400_000 + 1) * 86_400_000;
const { databases, honker, reader, close } = openTwice(() => now);
afterAll(close);

interface Row {
  readonly id: number;
  readonly state: string;
  readonly due: number;
  readonly priority: number;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly group_key: string | null;
  readonly group_seq: number | null;
}

class Run {
  readonly #limits: { -readonly [K in keyof Limits]: Limits[K] } = {};
  #held: Job<unknown>[] = [];
  #honkers: number[] = [];
  /** When each job was claimed by us, since there is a rate. */
  #starts: number[] = [];
  /** Joined their groups as they were enqueued, and have had no turn: these have theirs in this order. */
  #inLine: number[] = [];
  #completed: number[] = [];
  #lastId = 0;
  #isInside = false;

  constructor() {
    for (const { name } of reader
      .query<{ name: string }, []>(
        `SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '_honk*'
           AND name NOT IN ('_honkbun_migrations', '_honkbun_handles')`,
      )
      .all()) {
      reader.run(`DELETE FROM ${name}`);
    }
  }

  do(call: Call): void {
    const before = rows();
    this.#act(call);
    this.#check(before);
  }

  #act(call: Call): void {
    const db = databases["handle" in call && !this.#isInside ? call.handle : 0] as Honkbun;
    const queue = db.queue<number>(NAME, { maxAttempts: 2 });
    switch (call.call) {
      case "enqueue": {
        const { group, delay, priority, isAfter } = call;
        const isWaiting =
          isAfter && reader.query("SELECT 1 FROM _honker_live WHERE id = ?").get(this.#lastId);
        const id = queue.enqueue(1, {
          delay,
          priority,
          ...(group === null ? {} : { group }),
          ...(isWaiting ? { after: [this.#lastId] } : {}),
        });
        this.#lastId = id;
        if (group !== null && delay === 0 && !isWaiting) this.#inLine.push(id);
        break;
      }
      case "claim":
        this.#claim(db, call.count);
        break;
      case "ack":
      case "fail":
      case "retry":
      case "snooze":
        this.#settle(call.pick, (job) => {
          if (call.call === "ack") job.ack();
          else if (call.call === "fail") job.fail("no");
          else if (call.call === "retry") job.retry({ delay: call.delay });
          else job.snooze(call.delay);
          if (call.call !== "ack" || this.#limits.keepCompleted === undefined) return;
          this.#completed.push(job.id);
          this.#checkCompleted(this.#limits.keepCompleted);
        });
        break;
      case "cancel":
        queue.cancel(rows()[call.pick]?.id ?? 0);
        break;
      case "revive":
        queue.dead.retry(call.pick === 0 ? "all" : queue.dead.list({ limit: 1 }).map(({ id }) => id));
        break;
      case "clear":
        queue.clear();
        break;
      case "limit": {
        const { rate, keepCompleted, keepDead, ...rest } = call.limits;
        queue.setLimits({
          ...rest,
          ...(rate === undefined ? {} : { rate: rate === null ? null : { limit: rate, per: PER } }),
          ...(keepCompleted === undefined ? {} : { keepCompleted: { maxCount: keepCompleted } }),
          ...(keepDead === undefined ? {} : { keepDead: { maxCount: keepDead } }),
        });
        if (rate === null) this.#starts = [];
        Object.assign(this.#limits, call.limits);
        break;
      }
      case "advance":
        now += call.by;
        break;
      case "rollback":
        this.#rollBack(call.calls);
        break;
      case "honkerClaim":
        this.#honkers.push(...honker.claim(NAME, "honker"));
        break;
      case "honkerAck":
        honker.ack(this.#honkers[call.pick] ?? 0, "honker");
        break;
      case "honkerFail":
        honker.fail(this.#honkers[call.pick] ?? 0, "honker", "no");
        break;
    }
  }

  #claim(db: Honkbun, count: number): void {
    const before = rows();
    const jobs = db.queue<number>(NAME).claimBatch(count, { visibilityTimeout: VISIBILITY });
    const after = rows();
    const { concurrency = null, rate = null } = this.#limits;
    this.#held.push(...jobs);
    const startsBefore = this.#startsWithin();
    if (rate !== null) this.#starts.push(...jobs.map(() => now));

    // Never more than the limits allow.
    const running = after.filter(({ state }) => state === "processing").length;
    if (jobs.length > 0 && concurrency !== null) expect(running).toBeLessThanOrEqual(concurrency);
    if (jobs.length > 0 && rate !== null) expect(startsBefore + jobs.length).toBeLessThanOrEqual(rate);
    // And as many as they allow.
    const isFull =
      jobs.length === count ||
      (concurrency !== null && running >= concurrency) ||
      (rate !== null && startsBefore + jobs.length >= rate);
    const ready = after.filter(
      ({ state, due, group_key, group_seq }) =>
        (state === "pending" && due <= now && (group_key === null || group_seq !== null)) ||
        (state === "joining" && due <= now),
    );
    if (!isFull) expect(ready).toEqual([]);
    // In the order of groups.
    for (const id of jobs.map((job) => job.id).toSorted((a, b) => a - b)) {
      const { group_key } = before.find((row) => row.id === id) as Row;
      const place = this.#inLine.indexOf(id);
      if (place === -1) continue;
      const inFront = this.#inLine.slice(0, place).filter((other) => {
        const row = before.find((one) => one.id === other);
        return row?.group_key === group_key && row.state === "blocked";
      });
      expect([id, inFront]).toEqual([id, []]);
      this.#inLine.splice(place, 1);
    }
  }

  #startsWithin(): number {
    return this.#starts.filter((at) => at > now - PER).length;
  }

  #check(before: readonly Row[]): void {
    const after = rows();
    const most = this.#limits.groupConcurrency ?? 1;
    for (const [group, members] of Map.groupBy(after, ({ group_key }) => group_key)) {
      if (group === null) {
        expect(members.filter(({ state }) => state === "blocked")).toEqual([]);
        continue;
      }
      const joined = members.filter(({ group_seq }) => group_seq !== null);
      const active = joined.filter(({ state }) => state !== "blocked");
      const running = active.filter(({ state }) => state === "processing").length;
      const wasRunning = before.filter(
        ({ group_key, state }) => group_key === group && state === "processing",
      ).length;
      // No more have their turn than may, but for those that ran when fewer were allowed.
      expect(running).toBeLessThanOrEqual(Math.max(most, wasRunning));
      expect(active.length).toBeLessThanOrEqual(Math.max(most, running));
      // And nobody waits while there is room.
      if (joined.length > active.length) expect(active.length).toBeGreaterThanOrEqual(most);
    }
    const { keepDead } = this.#limits;
    if (keepDead !== undefined) {
      this.#prune();
      expect(count("_honker_dead")).toBeLessThanOrEqual(keepDead);
    }
    this.#inLine = this.#inLine.filter((id) => after.some((row) => row.id === id));
  }

  /** In a second that nobody has looked at yet, a claim frees and prunes all that there is. */
  #prune(): void {
    now = Math.ceil((now + 1) / 1_000) * 1_000;
    const queue = databases[0]?.queue<number>(NAME);
    queue?.pause();
    queue?.claimBatch(1);
    queue?.resume();
  }

  /** Of what has completed the latest are kept, once another one has. */
  #checkCompleted(keepCompleted: number): void {
    const kept = reader
      .query<{ id: number }, []>("SELECT id FROM _honkbun_completed ORDER BY completed_at, id")
      .all()
      .map(({ id }) => id);
    expect(kept.length).toBeLessThanOrEqual(keepCompleted);
    for (const id of kept) expect(this.#completed).toContain(id);
  }

  #settle(pick: number, act: (job: Job<unknown>) => void): void {
    const job = this.#held[pick % this.#held.length];
    if (job === undefined || this.#isInside) return;
    this.#held = this.#held.filter((one) => one !== job);
    try {
      act(job);
    } catch (error) {
      if (!(error instanceof ClaimLostError)) throw error;
    }
  }

  #rollBack(inner: readonly Call[]): void {
    const undo = new Error("undone");
    const before = { limits: { ...this.#limits }, rows: rows() };
    const [held, starts, inLine, lastId] = [
      [...this.#held],
      [...this.#starts],
      [...this.#inLine],
      this.#lastId,
    ];
    this.#isInside = true;
    try {
      databases[0]?.transaction(() => {
        for (const call of inner) if (call.call !== "claim") this.#act(call);
        throw undo;
      });
    } catch (error) {
      if (error !== undo) throw error;
    }
    this.#isInside = false;
    expect(rows()).toEqual(before.rows);
    for (const key of Object.keys(this.#limits) as (keyof Limits)[]) delete this.#limits[key];
    Object.assign(this.#limits, before.limits);
    [this.#held, this.#starts, this.#inLine, this.#lastId] = [held, starts, inLine, lastId];
  }
}

function rows(): Row[] {
  return reader
    .query<Row, []>(
      `SELECT id, state, due, priority, attempts, max_attempts, group_key, group_seq FROM _honker_live ORDER BY id`,
    )
    .all();
}

function count(table: string): number {
  return reader.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()?.n ?? 0;
}

test(
  "groups, limits and retention hold, whatever is called",
  async () => {
    await fc.assert(
      fc.property(fc.array(calls, { maxLength: 40, size: "max" }), (sequence) => {
        now += 86_400_000;
        const run = new Run();
        for (const call of sequence) run.do(call);
      }),
      { numRuns },
    );
  },
  deadline,
);
