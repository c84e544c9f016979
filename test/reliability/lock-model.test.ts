import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import { type Lock, LockLostError } from "../../src/index.ts";
import { storedName } from "../../src/rate-limit/rate-limit-options.ts";
import { runs } from "../support/runs.ts";
import { openTwice } from "../support/two-handles.ts";

// Locks and rate limits by two handles of one file and by honker, beside a model. No timer runs between the calls: nothing is renewed by itself.
const { numRuns, deadline } = runs(1);
const HANDLES = 2;
const NAMES = ["a", "b"] as const;

let now = Date.UTC(2026, 0, 1);
const { databases, honker, close } = openTwice(() => now);
afterAll(close);

type Call =
  | { readonly call: "try"; readonly handle: number; readonly name: "a" | "b"; readonly ttl: number }
  | { readonly call: "release" | "guard"; readonly pick: number }
  | { readonly call: "renew"; readonly pick: number; readonly ttl: number }
  | {
      readonly call: "fixed" | "bucket";
      readonly handle: number;
      readonly key: string;
      readonly cost: number;
    }
  | { readonly call: "honkerLock"; readonly name: "a" | "b"; readonly ttl: number }
  | { readonly call: "honkerUnlock"; readonly name: "a" | "b" }
  | { readonly call: "honkerTry"; readonly key: string }
  | { readonly call: "advance"; readonly by: number }
  | { readonly call: "rollback"; readonly calls: readonly Call[] };

const handle = fc.nat({ max: HANDLES - 1 });
const pick = fc.nat({ max: 4 });
const ttl = fc.constantFrom(1, 5, 30);
const single: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ call: fc.constant("try" as const), handle, name: fc.constantFrom(...NAMES), ttl }),
  },
  { weight: 3, arbitrary: fc.record({ call: fc.constantFrom("release" as const, "guard" as const), pick }) },
  { weight: 2, arbitrary: fc.record({ call: fc.constant("renew" as const), pick, ttl }) },
  {
    weight: 3,
    arbitrary: fc.record({
      call: fc.constantFrom("fixed" as const, "bucket" as const),
      handle,
      key: fc.constantFrom("x", "y"),
      cost: fc.integer({ min: 1, max: 3 }),
    }),
  },
);
const key = fc.constantFrom("x", "y");
const name = fc.constantFrom(...NAMES);
const calls: fc.Arbitrary<Call> = fc.oneof(
  { weight: 8, arbitrary: single },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("honkerLock" as const), name, ttl }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("honkerUnlock" as const), name }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("honkerTry" as const), key }) },
  {
    weight: 3,
    arbitrary: fc.record({
      call: fc.constant("advance" as const),
      by: fc.constantFrom(1, 300, 1_000, 2_500, 10_000, 60_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant("rollback" as const),
      calls: fc.array(single, { minLength: 1, maxLength: 4 }),
    }),
  },
);

interface Held {
  readonly lock: Lock;
  readonly handle: number;
  isReleased: boolean;
  /** It was told that the lock is lost, and remembers. */
  isLost: boolean;
}

const LIMIT = 4;
const PER = 10_000;
const BURST = 5;

class Run {
  /** Null: it is honker's. */
  readonly #holders = new Map<string, { readonly held: Held | null; expiresAt: number }>();
  readonly #all: Held[] = [];
  readonly #windows = new Map<string, number>();
  /** Microseconds until which each bucket takes to be full. */
  readonly #buckets = new Map<string, number>();
  #lastToken = 0;
  #isInside = false;
  /** Others than in any run before. */
  readonly #prefix = `${now}:`;

  do(call: Call): void {
    switch (call.call) {
      case "try": {
        const handle = this.#isInside ? 0 : call.handle;
        const name = this.#prefix + call.name;
        const lock = databases[handle]?.tryLock(name, { ttl: `${call.ttl}s` }) ?? null;
        const holder = this.#holders.get(name);
        const isFree = holder === undefined || holder.expiresAt <= Math.floor(now / 1_000);
        expect(lock !== null).toBe(isFree);
        if (lock === null) break;
        expect(lock.token).toBeGreaterThan(this.#lastToken);
        this.#lastToken = lock.token;
        const held = { lock, handle, isReleased: false, isLost: false };
        this.#all.push(held);
        this.#holders.set(name, { held, expiresAt: Math.ceil(now / 1_000) + call.ttl });
        break;
      }
      case "release": {
        const held = this.#all[call.pick % this.#all.length];
        if (held === undefined || (this.#isInside && held.handle !== 0)) break;
        held.lock.release();
        if (this.#isHolder(held)) this.#holders.delete(held.lock.name);
        held.isReleased = true;
        break;
      }
      case "renew":
        this.#expectHeld(call.pick, (held) => {
          held.lock.renew(`${call.ttl}s`);
          const holder = this.#holders.get(held.lock.name);
          if (holder !== undefined) holder.expiresAt = Math.ceil(now / 1_000) + call.ttl;
        });
        break;
      case "guard":
        this.#expectHeld(call.pick, ({ lock, handle }) => {
          if (this.#isInside) lock.guard();
          else databases[handle]?.transaction(() => lock.guard());
        });
        break;
      case "fixed": {
        const db = databases[this.#isInside ? 0 : call.handle];
        const key = this.#prefix + call.key;
        const found = db?.rateLimit("fixed", { limit: LIMIT, per: PER }).try({ key, cost: call.cost });
        const start = Math.floor(now / PER) * PER;
        const count = this.#windows.get(`${key} ${start}`) ?? 0;
        const allowed = count + call.cost <= LIMIT;
        if (allowed) this.#windows.set(`${key} ${start}`, count + call.cost);
        expect(found).toEqual({
          allowed,
          remaining: LIMIT - (allowed ? count + call.cost : count),
          retryAfter: allowed ? 0 : start + PER - now,
          resetAt: new Date(start + PER),
        });
        break;
      }
      case "bucket": {
        const db = databases[this.#isInside ? 0 : call.handle];
        const key = this.#prefix + call.key;
        const options = { limit: LIMIT, per: PER, algorithm: "token-bucket", burst: BURST } as const;
        const found = db?.rateLimit("bucket", options).try({ key, cost: call.cost });
        const [each, at] = [(PER * 1_000) / LIMIT, now * 1_000];
        const before = Math.max(this.#buckets.get(key) ?? at, at);
        const after = before + call.cost * each;
        const allowed = after <= at + BURST * each;
        if (allowed) this.#buckets.set(key, after);
        const fullAt = allowed ? after : before;
        expect(found).toEqual({
          allowed,
          remaining: Math.floor((BURST * each - (fullAt - at)) / each),
          retryAfter: allowed ? 0 : Math.ceil((after - at - BURST * each) / 1_000),
          resetAt: new Date(Math.ceil(fullAt / 1_000)),
        });
        break;
      }
      case "honkerLock": {
        const name = this.#prefix + call.name;
        const holder = this.#holders.get(name);
        const isFree = holder === undefined || holder.expiresAt <= Math.floor(now / 1_000);
        if (isFree) this.#holders.set(name, { held: null, expiresAt: Math.floor(now / 1_000) + call.ttl });
        expect(honker.lock(name, "honker", call.ttl)).toBe(isFree || holder.held === null);
        break;
      }
      case "honkerUnlock": {
        const name = this.#prefix + call.name;
        honker.unlock(name, "honker");
        if (this.#holders.get(name)?.held === null) this.#holders.delete(name);
        break;
      }
      case "honkerTry": {
        const start = Math.floor(now / PER) * PER;
        const window = `${this.#prefix + call.key} ${start}`;
        const count = this.#windows.get(window) ?? 0;
        if (count < LIMIT) this.#windows.set(window, count + 1);
        const stored = storedName("fixed", this.#prefix + call.key, "test");
        expect(honker.tryRateLimit(stored, LIMIT, PER / 1_000)).toBe(count < LIMIT);
        break;
      }
      case "advance":
        now += call.by;
        break;
      case "rollback":
        this.#rollBack(call.calls);
        break;
    }
  }

  #isHolder(held: Held): boolean {
    return this.#holders.get(held.lock.name)?.held === held && !held.isReleased;
  }

  /** What only the holder may do; others are told, one that has released it as well. */
  #expectHeld(pick: number, act: (held: Held) => void): void {
    const held = this.#all[pick % this.#all.length];
    if (held === undefined || (this.#isInside && held.handle !== 0)) return;
    const isHeld = this.#isHolder(held) && !held.isLost;
    let isTold = false;
    try {
      act(held);
    } catch (error) {
      if (!(error instanceof LockLostError)) throw error;
      isTold = true;
    }
    expect([held.lock.name, isTold]).toEqual([held.lock.name, !isHeld]);
    // Who is told outside a transaction knows from then on.
    if (isTold && !this.#isInside) held.isLost = true;
  }

  #rollBack(inner: readonly Call[]): void {
    const holders = new Map([...this.#holders].map(([name, holder]) => [name, { ...holder }]));
    const [windows, buckets] = [new Map(this.#windows), new Map(this.#buckets)];
    const known = this.#all.map((held) => ({ held, isReleased: held.isReleased }));
    const token = this.#lastToken;
    const rolledBack = new Error("rolled back");
    this.#isInside = true;
    try {
      databases[0]?.transaction(() => {
        for (const call of inner) this.do(call);
        throw rolledBack;
      });
    } catch (error) {
      if (error !== rolledBack) throw error;
    }
    this.#isInside = false;
    for (const [map, was] of [
      [this.#holders, holders],
      [this.#windows, windows],
      [this.#buckets, buckets],
    ] as [Map<string, unknown>, Map<string, unknown>][]) {
      map.clear();
      for (const [key, value] of was) map.set(key, value);
    }
    for (const { held, isReleased } of known) held.isReleased = isReleased;
    for (const held of this.#all.slice(known.length)) held.isLost = true; // the transaction that took it is undone
    this.#lastToken = token;
  }
}

test(
  "random calls of two handles hold locks, and count against limits, as the model does",
  async () => {
    await fc.assert(
      fc.property(fc.array(calls, { maxLength: 50, size: "max" }), (sequence) => {
        now += 86_400_000;
        const run = new Run();
        for (const call of sequence) run.do(call);
      }),
      { numRuns },
    );
  },
  deadline,
);
