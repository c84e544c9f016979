import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import { ClaimLostError, type Job, type Queue } from "../../src/index.ts";
import { runs } from "../support/runs.ts";
import { openTwice } from "../support/two-handles.ts";
import { type EnqueueTerms, QueueModel, VISIBILITY } from "./queue-model.ts";

// Random calls on two handles of one file, and honker's on a third connection, each compared with the model: what it returns, and
// every row after it. A failure prints its seed and the shortest calls that show it.
const { numRuns, deadline } = runs(1);
const HANDLES = 2;
const NAME = "q";

type Call =
  | { readonly call: "enqueue"; readonly handle: number; readonly terms: Terms }
  | { readonly call: "claim"; readonly handle: number; readonly count: number }
  | { readonly call: "ack" | "fail" | "heartbeat" | "progress"; readonly pick: number }
  | { readonly call: "retry" | "snooze"; readonly pick: number; readonly delay: number }
  | { readonly call: "ackBatch"; readonly picks: readonly number[] }
  | { readonly call: "cancel" | "revive"; readonly handle: number; readonly pick: number }
  | {
      readonly call: "update";
      readonly handle: number;
      readonly pick: number;
      readonly payload: number;
      readonly priority: number;
    }
  | { readonly call: "pause" | "resume" | "clear"; readonly handle: number }
  | { readonly call: "advance"; readonly by: number }
  | { readonly call: "rollback"; readonly calls: readonly Call[] }
  | { readonly call: "honkerEnqueue" | "honkerClaim"; readonly payload: number }
  | { readonly call: "honkerAck" | "honkerFail" | "honkerCancel"; readonly pick: number }
  | { readonly call: "honkerRetry"; readonly pick: number; readonly delay: number };

/** Parents are told by how far back they were enqueued. */
type Terms = Omit<EnqueueTerms, "after"> & { readonly back: readonly number[] };

const small = fc.nat({ max: 5 });
const handle = fc.nat({ max: HANDLES - 1 });
const delays = fc.constantFrom(0, 1, 500, 2_000, 30_000);
const terms: fc.Arbitrary<Terms> = fc.record({
  payload: small,
  delay: fc.constantFrom(0, 0, 0, 1, 1_500, 60_000),
  priority: fc.constantFrom(0, 0, 0, -1, 5),
  maxAttempts: fc.constantFrom(1, 2, 3),
  expiresIn: fc.constantFrom(null, null, null, 1, 20),
  key: fc.constantFrom(null, null, null, "a", "b"),
  back: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.uniqueArray(small, { maxLength: 2 }) },
  ),
  buries: fc.boolean(),
});
/** That may be part of a transaction. */
const ours: fc.Arbitrary<Call> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ call: fc.constant("enqueue" as const), handle, terms }) },
  {
    weight: 5,
    arbitrary: fc.record({
      call: fc.constant("claim" as const),
      handle,
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      call: fc.constantFrom("ack" as const, "fail" as const, "heartbeat" as const, "progress" as const),
      pick: small,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      call: fc.constantFrom("retry" as const, "snooze" as const),
      pick: small,
      delay: delays,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("ackBatch" as const),
      picks: fc.uniqueArray(small, { maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      call: fc.constantFrom("cancel" as const, "revive" as const),
      handle,
      pick: small,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("update" as const),
      handle,
      pick: small,
      payload: small,
      priority: fc.constantFrom(0, 7),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constantFrom("pause" as const, "resume" as const, "resume" as const, "clear" as const),
      handle,
    }),
  },
);
const calls: fc.Arbitrary<Call> = fc.oneof(
  { weight: 10, arbitrary: ours },
  {
    weight: 3,
    arbitrary: fc.record({
      call: fc.constant("advance" as const),
      by: fc.constantFrom(1, 999, 1_000, 5_000, 12_000, 400_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("rollback" as const),
      calls: fc.array(ours, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constantFrom("honkerEnqueue" as const, "honkerClaim" as const),
      payload: small,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constantFrom("honkerAck" as const, "honkerFail" as const, "honkerCancel" as const),
      pick: small,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("honkerRetry" as const),
      pick: small,
      delay: fc.nat({ max: 3 }),
    }),
  },
);

let now = Date.UTC(2026, 0, 1);
const { databases, honker, reader, close } = openTwice(() => now);
afterAll(close);

const TABLES = [
  "_honker_live",
  "_honker_dead",
  "_honkbun_cancelled",
  "_honkbun_queues",
  "_honkbun_dependencies",
];
const lastId = (): number =>
  reader.query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = '_honker_live'").get()
    ?.seq ?? 0;

/** A claim that is in somebody's hands. */
interface Held {
  readonly job: Job<number>;
  readonly holder: string;
  readonly handle: number;
}

/** One sequence of calls, on the file and on the model. */
class Run {
  readonly #model = new QueueModel(now, lastId());
  /** Not settled yet, as far as we know. */
  #held: Held[] = [];
  #honkers: number[] = [];
  #claims = 0;
  #isInside = false;
  readonly #queues: readonly Queue<number>[] = databases.map((db) => db.queue<number>(NAME));

  do(call: Call): void {
    this.#compare(call);
    const jobs = reader
      .query(
        `SELECT id, CAST(payload AS INTEGER) AS payload, state, priority, due, attempts, max_attempts AS maxAttempts,
           expires_at AS expiresAt, claim_expires_at AS claimExpiresAt FROM _honker_live ORDER BY id`,
      )
      .all();
    const expected = [...this.#model.live.values()]
      .sort((a, b) => a.id - b.id)
      .map(({ holder: _, key: __, parents: ___, dueMs: ____, ...job }) => job);
    expect(jobs).toEqual(expected);
    const dead = reader.query<{ id: number }, []>("SELECT id FROM _honker_dead ORDER BY id").all();
    expect(dead.map(({ id }) => id)).toEqual([...this.#model.dead.keys()].sort((a, b) => a - b));
  }

  #compare(call: Call, isInside = false): void {
    const model = this.#model;
    switch (call.call) {
      case "enqueue": {
        const { back, buries, expiresIn, key, ...rest } = call.terms;
        const after = back.map((steps) => model.lastId - steps).filter((id) => id > 0);
        const queue = this.#queue(call.handle, isInside);
        const id = queue.enqueue(rest.payload, {
          delay: rest.delay,
          priority: rest.priority,
          maxAttempts: rest.maxAttempts,
          ...(expiresIn === null ? {} : { expiresIn: `${expiresIn}s` as const }),
          ...(key === null ? {} : { uniqueKey: key }),
          ...(after.length === 0 ? {} : { after, ifFailed: buries ? "bury" : "run" }),
        });
        expect(id).toBe(model.enqueue({ ...call.terms, after }) ?? -1);
        break;
      }
      case "claim": {
        const holder = `claim ${this.#claims++}`;
        const handle = isInside ? 0 : call.handle;
        const jobs = this.#queues[handle]?.claimBatch(call.count, { visibilityTimeout: VISIBILITY }) ?? [];
        expect(jobs.map(({ id }) => id)).toEqual(model.claim(handle, call.count, holder));
        for (const job of jobs) {
          expect(job.payload).toBe(model.live.get(job.id)?.payload ?? -1);
          expect(job.attempt).toBe(model.live.get(job.id)?.attempts ?? -1);
          this.#held.push({ job, holder, handle });
        }
        break;
      }
      case "ack":
        this.#settle(
          call.pick,
          (job) => job.ack(),
          (id, holder) => model.ack(id, holder),
        );
        break;
      case "fail":
        this.#settle(
          call.pick,
          (job) => job.fail("no"),
          (id, holder) => model.fail(id, holder),
        );
        break;
      case "retry":
        this.#settle(
          call.pick,
          (job) => job.retry({ delay: call.delay }),
          (id, holder) => model.retry(id, holder, call.delay),
        );
        break;
      case "snooze":
        this.#settle(
          call.pick,
          (job) => job.snooze(call.delay),
          (id, holder) => model.snooze(id, holder, call.delay),
        );
        break;
      case "heartbeat":
        this.#touch(
          call.pick,
          (job) => job.heartbeat(),
          (id, holder) => model.heartbeat(id, holder),
        );
        break;
      case "progress":
        this.#touch(
          call.pick,
          (job) => job.progress(1),
          (id, holder) => model.live.get(id)?.holder === holder,
        );
        break;
      case "ackBatch": {
        // Of one handle, whose call it is.
        const picked = call.picks.flatMap((pick) => this.#held[pick] ?? []);
        const acked = picked.filter(({ job, holder }) => model.ack(job.id, holder));
        expect(this.#queues[0]?.ackBatch(picked.map(({ job }) => job))).toBe(acked.length);
        this.#held = this.#held.filter((held) => !acked.includes(held));
        break;
      }
      case "cancel": {
        const id = this.#anId(call.pick);
        expect(this.#queue(call.handle, isInside).cancel(id)).toBe(model.cancel(id));
        break;
      }
      case "revive": {
        const id = [...model.dead.keys()][call.pick % model.dead.size] ?? 0;
        expect(this.#queue(call.handle, isInside).dead.retry([id])).toBe(model.reviveDead(id));
        break;
      }
      case "update": {
        const id = this.#anId(call.pick);
        const { payload, priority } = call;
        const isChanged = this.#queue(call.handle, isInside).update(id, { payload, priority });
        expect(isChanged).toBe(model.update(id, payload, priority));
        break;
      }
      case "pause":
        this.#queue(call.handle, isInside).pause();
        model.isPaused = true;
        break;
      case "resume":
        this.#queue(call.handle, isInside).resume();
        model.isPaused = false;
        break;
      case "clear":
        expect(this.#queue(call.handle, isInside).clear()).toBe(model.clear());
        break;
      case "advance":
        now += call.by;
        model.now = now;
        break;
      case "rollback":
        this.#rollBack(call.calls);
        break;
      case "honkerEnqueue":
        expect(honker.enqueue(NAME, call.payload)).toBe(model.honkerEnqueue(call.payload));
        break;
      case "honkerClaim": {
        const ids = honker.claim(NAME, "honker");
        expect(ids).toEqual(model.honkerClaim("honker", 1));
        this.#honkers.push(...ids);
        break;
      }
      case "honkerAck":
        expect(honker.ack(this.#honkerJob(call.pick), "honker")).toBe(
          model.honkerAck(this.#honkerJob(call.pick), "honker"),
        );
        break;
      case "honkerFail":
        honker.fail(this.#honkerJob(call.pick), "honker", "no");
        model.honkerFail(this.#honkerJob(call.pick), "honker");
        break;
      case "honkerCancel":
        expect(honker.cancel(this.#anId(call.pick))).toBe(model.honkerCancel(this.#anId(call.pick)));
        break;
      case "honkerRetry":
        honker.retry(this.#honkerJob(call.pick), "honker", call.delay);
        model.honkerRetry(this.#honkerJob(call.pick), "honker", call.delay);
        break;
    }
  }

  #honkerJob(pick: number): number {
    return this.#honkers[pick % this.#honkers.length] ?? 0;
  }

  /** A transaction is one handle's. */
  #queue(handle: number, isInside: boolean): Queue<number> {
    return this.#queues[isInside ? 0 : handle] as Queue<number>;
  }

  #anId(pick: number): number {
    return Math.max(this.#model.lastId - pick, 0);
  }

  #settle(
    pick: number,
    real: (job: Job<number>) => void,
    model: (id: number, holder: string) => boolean,
  ): void {
    const held = this.#touch(pick, real, model);
    if (held !== undefined) this.#held = this.#held.filter((one) => one !== held);
  }

  /** Returns the claim that held, if it did. */
  #touch(
    pick: number,
    real: (job: Job<number>) => void,
    model: (id: number, holder: string) => boolean,
  ): Held | undefined {
    const held = this.#held[pick % this.#held.length];
    // A call inside a transaction is on the handle that claimed; the other's would wait for it for ever.
    if (held === undefined || (this.#isInside && held.handle !== 0)) return undefined;
    let isHeld = true;
    try {
      real(held.job);
    } catch (error) {
      if (!(error instanceof ClaimLostError)) throw error;
      isHeld = false;
    }
    expect([held.job.id, isHeld]).toEqual([held.job.id, model(held.job.id, held.holder)]);
    return isHeld ? held : undefined;
  }

  #rollBack(inner: readonly Call[]): void {
    const restore = this.#model.snapshot();
    const held = [...this.#held];
    const rolledBack = new Error("rolled back");
    this.#isInside = true;
    try {
      databases[0]?.transaction(() => {
        for (const call of inner) if (call.call !== "ackBatch") this.#compare(call, true);
        throw rolledBack;
      });
    } catch (error) {
      if (error !== rolledBack) throw error;
    }
    this.#isInside = false;
    restore();
    this.#held = held; // what was settled there is not
  }
}

test(
  "random calls of two handles and of honker do what the model does",
  async () => {
    await fc.assert(
      fc.property(fc.array(calls, { maxLength: 50, size: "max" }), (sequence) => {
        now += 86_400_000;
        for (const table of TABLES) reader.run(`DELETE FROM ${table}`);
        const run = new Run();
        for (const call of sequence) run.do(call);
      }),
      { numRuns },
    );
  },
  deadline,
);
