import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";

import * as fc from "fast-check";

import { HonkbunError, type Job, open, UnrecoverableError } from "../../src/index.ts";
import {
  busy,
  drain,
  failNext,
  killWorker,
  loseClaims,
  perform,
  testDatabase,
} from "../../src/testing/index.ts";
import { Folder } from "../support/folder.ts";
import { runs } from "../support/runs.ts";
import { assertIntegrity } from "../support/workload.ts";

// Every argument and option, one at a time, with values that its type forbids or that lie at its edges.
const { numRuns, deadline } = runs(1);

/** What the application's own code may throw while an argument of its is read. */
const OWN = new Error("thrown by the argument itself");
const throws = (): never => {
  throw OWN;
};
const cyclic: Record<string, unknown> = {};
cyclic.self = cyclic;
const hostileProxy = new Proxy({}, { get: throws, has: throws, ownKeys: throws, getPrototypeOf: throws });

const VALUES: Readonly<Record<string, unknown>> = {
  undefined: undefined,
  null: null,
  true: true,
  false: false,
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "-Infinity": Number.NEGATIVE_INFINITY,
  "0": 0,
  "-0": -0,
  "-1": -1,
  "a fraction": 0.5,
  "1.0000000000000002": 1 + Number.EPSILON,
  "1e-320": 1e-320,
  "2^31": 2 ** 31,
  "2^53 - 1": Number.MAX_SAFE_INTEGER,
  "2^53": 2 ** 53,
  "2^63": 2 ** 63,
  "1e308": 1e308,
  "the last instant": 8.64e15,
  "a BigInt": 1n,
  "a large BigInt": 2n ** 64n,
  "an empty string": "",
  "white space": " ",
  "a word": "word",
  "a number as text": "5",
  "an endless duration": "1e999s",
  "a duration that overflows": "9999999999d",
  "a duration with many digits": `${"9".repeat(400)}s`,
  "the longest duration": "100000000d",
  "a negative duration": "-1s",
  "half a surrogate pair": "\ud800",
  "a zero character": "a\0b",
  SQL: "'; DROP TABLE _honker_live; --",
  "double quotes": '"x"',
  "an emoji": "🐰",
  "a long text": "x".repeat(100_000),
  "a symbol": Symbol("s"),
  "a function": () => 1,
  "a function that throws": throws,
  "an async function": async () => 1,
  "an invalid Date": new Date(Number.NaN),
  "a Date before 1970": new Date(-1),
  "a Date past 9999": new Date(8.64e15),
  "an empty array": [],
  "an array with a hole": Object.assign([], { 1: 1 }),
  "an array of a hole": new Array(1),
  "an array of null": [null],
  "an array of fractions": [0.5],
  "an array of ids as strings": ["1"],
  "an array of ids beyond 2^53": [2 ** 53],
  "a nested array": [[1]],
  "an empty object": {},
  "an object without prototype": Object.create(null),
  "an object with unknown keys": { surprise: 1 },
  "an object whose getter throws": Object.defineProperty({}, "timeout", { get: throws, enumerable: true }),
  "an object whose toJSON throws": { toJSON: throws, toString: throws, valueOf: throws },
  "a proxy that throws": hostileProxy,
  "a cyclic object": cyclic,
  "a Map": new Map([[1, 2]]),
  "a Set": new Set([1]),
  "a RegExp": /x/,
  "a URL": new URL("https://example.com/"),
  "an Error": new Error("an error"),
  "a typed array": new Uint8Array(3),
  "a boxed number": Object(1),
  "a boxed string": Object("x"),
  "a Promise": Promise.resolve(1),
  "an aborted signal": AbortSignal.abort(OWN),
  "a closed handle": closedHandle(),
  "a handle on another database": new Database(":memory:"),
};

function closedHandle(): Database {
  const handle = new Database(":memory:");
  handle.close();
  return handle;
}

const folder = new Folder();
const now = Date.UTC(2026, 0, 1);
const db = open(folder.file(), { clock: () => now, wake: { safetyInterval: false } });
const errors: unknown[] = [];
db.on("error", ({ error }) => void errors.push(error));
db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)");
const fixture = testDatabase();
const watcher = new Database(folder.file());
afterAll(() => {
  watcher.close();
  fixture.close();
  db.close();
  folder[Symbol.dispose]();
});

// biome-ignore lint/suspicious/noExplicitAny: what the types forbid is passed on purpose
type Any = any;
let names = 0;
const fresh = (): string => `fresh ${names++}`;
const queue = db.queue<Any, Any>("q");
const listed = db.queue("listed");
const stream = db.stream<Any>("events");
const kept = db.queue("kept", { keepResult: true });
const id = kept.enqueue(1);
kept.claimBatch(1)[0]?.ack();
const limit = db.rateLimit("limit", { limit: 1_000_000_000, per: "1s" });
const group = stream.group("group");
const schedule = { every: "1h", queue: "q" } as const;
db.scheduler.add("schedule", schedule);
const task = db.task<Any>(fresh(), {} as Any);
const idle = db.queue<Any>("idle");
const handled = fixture.task("handled", {}, () => 1);

function claimed(): Job<Any, Any> {
  const own = db.queue<Any, Any>(fresh(), { keepResult: true });
  own.enqueue(1);
  return own.claimBatch(1)[0] as Job<Any, Any>;
}

/** Prepares a call with a value, under what the errors must name: the call, and the argument. */
const CALLS: Readonly<Record<string, (value: Any) => () => unknown>> = {
  "open: file": (v) => () => open(typeof v === "string" && v !== "" ? `${folder.path}/${v}` : v),
  "open: options": (v) => () => open(":memory:", v),
  "open: synchronous": (v) => () => open(":memory:", { synchronous: v }),
  "open: busyTimeout": (v) => () => open(":memory:", { busyTimeout: v }),
  "open: readers": (v) => () => open(":memory:", { readers: v }),
  "open: clock": (v) => () => open(":memory:", { clock: v }),
  "open: wake": (v) => () => open(":memory:", { wake: v }),
  "open: safetyInterval": (v) => () => open(":memory:", { wake: { safetyInterval: v } }),
  "open: mode": (v) => () => open(":memory:", { wake: { mode: v } }),
  "open: notifications": (v) => () => open(":memory:", { notifications: v }),
  "open: maxAge": (v) => () => open(":memory:", { notifications: { maxAge: v } }),
  "open: maxCount": (v) => () => open(":memory:", { notifications: { maxCount: v } }),

  "transaction: fn": (v) => () => db.transaction(v),
  "on: event": (v) => () => db.on(v, () => {}),
  "on: listener": (v) => () => db.on("job:retried", v),

  "queue: name": (v) => () => db.queue(v),
  "queue: options": (v) => () => db.queue("q", v),
  "queue: schema": (v) => () => db.queue("q", { schema: v }),
  "queue: result": (v) => () => db.queue("q", { result: v } as Any),
  "queue: maxAttempts": (v) => () => db.queue("q", { maxAttempts: v }),
  "queue: visibilityTimeout": (v) => () => db.queue("q", { visibilityTimeout: v }),
  "queue: backoff": (v) => () => db.queue("q", { backoff: v }),
  "queue: backoff ": (v) => () => db.queue("q", { backoff: { type: v } }),
  "queue: backoff  ": (v) => () => db.queue("q", { backoff: { base: v } }),
  "queue: backoff   ": (v) => () => db.queue("q", { backoff: { max: v } }),
  "queue: backoff    ": (v) => () => db.queue("q", { backoff: { jitter: v } }),
  "queue: keepResult": (v) => () => db.queue("q", { keepResult: v }),

  "enqueue: payload": (v) => () => queue.enqueue(v),
  "enqueue: options": (v) => () => queue.enqueue(1, v),
  "enqueue: delay": (v) => () => queue.enqueue(1, { delay: v }),
  "enqueue: runAt": (v) => () => queue.enqueue(1, { runAt: v }),
  "enqueue: priority": (v) => () => queue.enqueue(1, { priority: v }),
  "enqueue: expiresIn": (v) => () => queue.enqueue(1, { expiresIn: v }),
  "enqueue: maxAttempts": (v) => () => queue.enqueue(1, { maxAttempts: v }),
  "enqueue: group": (v) => () => queue.enqueue(1, { group: v }),
  "enqueue: after": (v) => () => queue.enqueue(1, { after: v }),
  "enqueue: ifFailed": (v) => () => queue.enqueue(1, { after: [], ifFailed: v }),
  "enqueue: uniqueKey": (v) => () => queue.enqueue(1, { uniqueKey: v }),
  "enqueue: uniqueUntil": (v) => () => queue.enqueue(1, { uniqueKey: fresh(), uniqueUntil: v }),
  "enqueue: uniqueFor": (v) => () => queue.enqueue(1, { uniqueKey: fresh(), uniqueFor: v }),
  "enqueue: onDuplicate": (v) => () => queue.enqueue(1, { uniqueKey: fresh(), onDuplicate: v }),
  "enqueue: tx": (v) => () => queue.enqueue(1, { tx: v }),
  "tryEnqueue: payload": (v) => () => queue.tryEnqueue(v, { uniqueKey: fresh() }),
  "tryEnqueue: options": (v) => () => queue.tryEnqueue(1, v),
  "tryEnqueue: uniqueKey": (v) => () => queue.tryEnqueue(1, { uniqueKey: v }),
  "enqueueMany: payloads": (v) => () => queue.enqueueMany(typeof v === "string" ? v.slice(0, 9) : v),
  "enqueueMany: payload": (v) => () => queue.enqueueMany([1, v]),
  "enqueueMany: options": (v) => () => queue.enqueueMany([1, 2], v),
  "enqueueMany: options ": (v) => () => queue.enqueueMany([1, 2], (_, n) => (n === 0 ? {} : v)),
  "enqueueMany: delay": (v) => () => queue.enqueueMany([1, 2], (_, n) => (n === 0 ? {} : { delay: v })),
  "enqueueMany: group": (v) => () => queue.enqueueMany([1, 2], { group: v }),
  "enqueueMany: after": (v) => () => queue.enqueueMany([1, 2], (_, n) => (n === 0 ? {} : { after: v })),
  "enqueueMany: tx": (v) => () => queue.enqueueMany([1, 2], (_, n) => (n === 0 ? {} : { tx: v })),
  "enqueueAsync: payload": (v) => () => queue.enqueueAsync(v),
  "enqueueAsync: options": (v) => () => queue.enqueueAsync(1, v),
  "enqueueAsync: runAt": (v) => () => queue.enqueueAsync(1, { runAt: v }),
  "enqueueAsync: after": (v) => () => queue.enqueueAsync(1, { after: v }),
  "claim: worker": (v) => () => idle.claim(v, undefined),
  "claim: options": (v) => () => idle.claim("label", v),
  "claim: visibilityTimeout": (v) => () => idle.claim({ visibilityTimeout: v }),
  "claim: worker ": (v) => () => idle.claim({ worker: v }),
  "claim: prefetch": (v) => () => idle.claim({ prefetch: v }),
  "claim: signal": (v) => () => idle.claim({ signal: v }),
  "claimBatch: count": (v) => () => idle.claimBatch("label", v),
  "claimBatch: options": (v) => () => idle.claimBatch(1, v),
  "claimBatch: visibilityTimeout": (v) => () => idle.claimBatch(1, { visibilityTimeout: v }),
  "claimBatch: worker": (v) => () => idle.claimBatch(1, { worker: v }),
  "claimBatch: prefetch": (v) => () => idle.claimBatch(1, { prefetch: v }),
  "ackBatch: jobs": (v) => () => queue.ackBatch(v),
  "ackBatch: jobs ": (v) => () => queue.ackBatch([v]),
  "ackBatch: options": (v) => () => queue.ackBatch([], v),
  "ackBatch: tx": (v) => {
    const job = claimed();
    return () => queue.ackBatch([job], { tx: v });
  },
  "work: handler": (v) => () => idle.work(v),
  "work: options": (v) => () => idle.work(() => {}, v),
  "work: concurrency": (v) => () => idle.work(() => {}, { concurrency: v }),
  "work: timeout": (v) => () => idle.work(() => {}, { timeout: v }),
  "work: prefetch": (v) => () => idle.work(() => {}, { prefetch: v }),
  "work: signals": (v) => () => idle.work(() => {}, { signals: v }),
  "work: name": (v) => () => idle.work(() => {}, { name: v }),
  "work: signal": (v) => () => idle.work(() => {}, { signal: v }),
  "stop: options": (v) => () => idle.work(() => {}).stop(v),
  "stop: timeout": (v) => () => idle.work(() => {}).stop({ timeout: v }),
  "get: id": (v) => () => queue.get(v),
  "list: options": (v) => () => listed.list(v),
  "list: state": (v) => () => listed.list({ state: v }),
  "list: limit": (v) => () => listed.list({ limit: v }),
  "list: after": (v) => () => listed.list({ after: v }),
  "update: id": (v) => () => queue.update(v, { priority: 1 }),
  "update: changes": (v) => () => queue.update(1, v),
  "update: payload": (v) => {
    const id = queue.enqueue(1);
    return () => queue.update(id, { payload: v });
  },
  "update: runAt": (v) => {
    const id = queue.enqueue(1);
    return () => queue.update(id, { runAt: v });
  },
  "update: priority": (v) => {
    const id = queue.enqueue(1);
    return () => queue.update(id, { priority: v });
  },
  "update: options": (v) => () => queue.update(1, { priority: 1 }, v),
  "update: tx": (v) => () => queue.update(1, { priority: 1 }, { tx: v }),
  "cancel: id": (v) => () => queue.cancel(v),
  "cancel: options": (v) => () => queue.cancel(1_000_000, v),
  "cancel: tx": (v) => () => queue.cancel(1_000_000, { tx: v }),
  "watch: id": (v) => () => queue.watch(v),
  "watch: options": (v) => () => queue.watch(1_000_000, v),
  "watch: signal": (v) => () => queue.watch(1_000_000, { signal: v }),
  "waitResult: job": (v) => () => queue.waitResult(v),
  "waitResult: options": (v) => () => kept.waitResult(id, v),
  "waitResult: timeout": (v) => () => kept.waitResult(id, { timeout: v }),
  "waitResult: signal": (v) => () => kept.waitResult(id, { signal: v }),
  "setLimits: limits": (v) => () => queue.setLimits(v),
  "setLimits: concurrency": (v) => () => idle.setLimits({ concurrency: v }),
  "setLimits: groupConcurrency": (v) => () => idle.setLimits({ groupConcurrency: v }),
  "setLimits: rate": (v) => () => idle.setLimits({ rate: v }),
  "setLimits: limit": (v) => () => idle.setLimits({ rate: { limit: v, per: "1s" } }),
  "setLimits: per": (v) => () => idle.setLimits({ rate: { limit: 1, per: v } }),
  "setLimits: keepCompleted": (v) => () => idle.setLimits({ keepCompleted: v }),
  "setLimits: maxAge": (v) => () => idle.setLimits({ keepCompleted: { maxAge: v } }),
  "setLimits: maxCount": (v) => () => idle.setLimits({ keepDead: { maxCount: v } }),
  "dead.list: options": (v) => () => queue.dead.list(v),
  "dead.list: limit": (v) => () => queue.dead.list({ limit: v }),
  "dead.list: after": (v) => () => queue.dead.list({ after: v }),
  "dead.retry: which": (v) => () => queue.dead.retry(v),
  "dead.purge: which": (v) => () => queue.dead.purge(v),
  "dead.purge: olderThan": (v) => () => queue.dead.purge({ olderThan: v }),

  "ack: options": (v) => {
    const job = claimed();
    return () => job.ack(v);
  },
  "ack: result": (v) => {
    const job = claimed();
    return () => job.ack({ result: v });
  },
  "ack: tx": (v) => {
    const job = claimed();
    return () => job.ack({ tx: v });
  },
  "retry: options": (v) => {
    const job = claimed();
    return () => job.retry(v);
  },
  "retry: delay": (v) => {
    const job = claimed();
    return () => job.retry({ delay: v });
  },
  "retry: error": (v) => {
    const job = claimed();
    return () => job.retry({ error: v });
  },
  "fail: error": (v) => {
    const job = claimed();
    return () => job.fail(v);
  },
  "fail: options": (v) => {
    const job = claimed();
    return () => job.fail("no", v);
  },
  "snooze: delay": (v) => {
    const job = claimed();
    return () => job.snooze(v);
  },
  "snooze: options": (v) => {
    const job = claimed();
    return () => job.snooze(1, v);
  },
  "heartbeat: extend": (v) => {
    const job = claimed();
    return () => job.heartbeat(v);
  },
  "progress: value": (v) => {
    const job = claimed();
    return () => job.progress(v);
  },

  "outbox: name": (v) => () => db.outbox(v, () => {}),
  "outbox: deliver": (v) => () => db.outbox("out", v),
  "outbox: options": (v) => () => db.outbox("out", () => {}, v),
  "task: name": (v) => () => db.task(v, {}),
  "task: options": (v) => () => db.task(fresh(), v),
  "task: queue": (v) => () => db.task(fresh(), { queue: v }),
  "task: timeout": (v) => () => db.task(fresh(), { timeout: v }),
  "task: priority": (v) => () => db.task(fresh(), { priority: v }),
  "task: input": (v) => () => db.task(fresh(), { input: v }),
  "task: output": (v) => () => db.task(fresh(), { output: v }),
  "task: maxAttempts": (v) => () => db.task(fresh(), { maxAttempts: v }),
  "task.handle: handler": (v) => () => db.task(fresh(), {}, v ?? null),
  "enqueue: input": (v) => () => task.enqueue(v),
  "enqueue: options ": (v) => () => task.enqueue(undefined, v),
  "enqueueMany: inputs": (v) => () => task.enqueueMany(typeof v === "string" ? v.slice(0, 9) : v),
  "get: id ": (v) => () => task.job(v).get(),
  "work: options ": (v) => () => db.work(v),
  "work: scheduler": (v) => () => db.work({ scheduler: v }),

  "stream: topic": (v) => () => db.stream(v),
  "stream: options": (v) => () => db.stream("events", v),
  "stream: schema": (v) => () => db.stream("events", { schema: v }),
  "stream: retain": (v) => () => db.stream("events", { retain: v }),
  "stream: maxAge": (v) => () => db.stream("events", { retain: { maxAge: v } }),
  "publish: payload": (v) => () => stream.publish(v),
  "publish: options": (v) => () => stream.publish(1, v),
  "publish: key": (v) => () => stream.publish(1, { key: v }),
  "publish: tx": (v) => () => stream.publish(1, { tx: v }),
  "publishMany: payloads": (v) => () => stream.publishMany(typeof v === "string" ? v.slice(0, 9) : v),
  "publishMany: payload": (v) => () => stream.publishMany([1, v]),
  "publishMany: options": (v) => () => stream.publishMany([1], v),
  "publishMany: key": (v) => () => stream.publishMany([1], { key: v }),
  "publishMany: key ": (v) => () => stream.publishMany([1, 2], { key: (n) => (n === 1 ? "k" : v) }),
  "publishAsync: payload": (v) => () => stream.publishAsync(v),
  "publishAsync: options": (v) => () => stream.publishAsync(1, v),
  "publishAsync: key": (v) => () => stream.publishAsync(1, { key: v }),
  "read: options": (v) => () => stream.read(v),
  "read: after": (v) => () => stream.read({ after: v }),
  "read: limit": (v) => () => stream.read({ limit: v }),
  "read: key": (v) => () => stream.read({ key: v }),
  "subscribe: options": (v) => () => stream.subscribe(v),
  "subscribe: consumer": (v) => () => stream.subscribe({ consumer: v }),
  "subscribe: from": (v) => () => stream.subscribe({ from: v }),
  "subscribe: key": (v) => () => stream.subscribe({ key: v }),
  "subscribe: onTrimmed": (v) => () => stream.subscribe({ onTrimmed: v }),
  "subscribe: signal": (v) => () => stream.subscribe({ signal: v }),
  "process: consumer": (v) => () => db.stream("none").process(v, () => {}),
  "process: handler": (v) => () => db.stream("none").process(fresh(), v),
  "process: options": (v) => () => db.stream("none").process(fresh(), () => {}, v),
  "process: from": (v) => () => db.stream("none").process(fresh(), () => {}, { from: v }),
  "process: onError": (v) => () => db.stream("none").process(fresh(), () => {}, { onError: v }),
  "seek: consumer": (v) => () => stream.seek(v, "start"),
  "seek: to": (v) => () => stream.seek("consumer", v),
  "seek: options": (v) => () => stream.seek("consumer", 1, v),
  "trim: retain": (v) => () => db.stream("none").trim(v),
  "trim: maxAge": (v) => () => db.stream("none").trim({ maxAge: v }),
  "trim: maxCount": (v) => () => db.stream("none").trim({ maxCount: v }),
  "trim: options": (v) => () => db.stream("none").trim({}, v),
  "group: name": (v) => () => stream.group(v),
  "group.work: handler": (v) => () => db.stream("none").group(fresh()).work(v),
  "work: options  ": (v) => () =>
    db
      .stream("none")
      .group("g")
      .work(() => {}, v),
  "group.work: order": (v) => () =>
    db
      .stream("none")
      .group("g")
      .work(() => {}, { order: v }),
  "group.work: maxDeliveries": (v) => () =>
    db
      .stream("none")
      .group("g")
      .work(() => {}, { maxDeliveries: v }),
  "group.work: backoff": (v) => () =>
    db
      .stream("none")
      .group("g")
      .work(() => {}, { backoff: v }),
  "dead.list: options ": (v) => () => group.dead.list(v),
  "dead.retry: which ": (v) => () => group.dead.retry(v),
  "dead.purge: which ": (v) => () => group.dead.purge(v),

  "notify: channel": (v) => () => db.notify(v),
  "notify: payload": (v) => () => db.notify("c", v),
  "notify: options": (v) => () => db.notify("c", 1, v),
  "notify: tx": (v) => () => db.notify("c", 1, { tx: v }),
  "listen: channel": (v) => () => db.listen(v),
  "listen: channel ": (v) => () => db.listen(["c", v]),
  "listen: options": (v) => () => db.listen("c", v),
  "listen: options ": (v) => () => db.listen("c", () => {}, v),
  "listen: onLagged": (v) => () => db.listen("c", { onLagged: v }),
  "listen: signal": (v) => () => db.listen("c", { signal: v }),

  "tryLock: name": (v) => () => db.tryLock(v),
  "tryLock: options": (v) => () => db.tryLock(fresh(), v),
  "tryLock: ttl": (v) => () => db.tryLock(fresh(), { ttl: v }),
  "tryLock: owner": (v) => () => db.tryLock(fresh(), { owner: v }),
  "lock: name": (v) => () => db.lock(v),
  "lock: options": (v) => () => db.lock(fresh(), v),
  "lock: timeout": (v) => () => db.lock(fresh(), { timeout: v }),
  "lock: signal": (v) => () => db.lock(fresh(), { signal: v }),
  "lock: name ": (v) => () => db.withLock(v, () => 1),
  "withLock: fn": (v) => () => db.withLock(fresh(), typeof v === "function" ? () => 1 : v),
  "lock: options ": (v) => () => db.withLock(fresh(), () => 1, v),
  "renew: ttl": (v) => {
    const lock = db.tryLock(fresh());
    return () => lock?.renew(v);
  },
  "guard: tx": (v) => {
    const lock = db.tryLock(fresh());
    return () => lock?.guard(v);
  },
  "rateLimit: name": (v) => () => db.rateLimit(v, { limit: 1, per: "1s" }),
  "rateLimit: options": (v) => () => db.rateLimit("r", v),
  "rateLimit: limit": (v) => () => db.rateLimit("r", { limit: v, per: "1s" }),
  "rateLimit: per": (v) => () => db.rateLimit("r", { limit: 1, per: v }).try(),
  "rateLimit: per ": (v) => () =>
    db.rateLimit(fresh(), { limit: 1, per: v, algorithm: "token-bucket" }).try(),
  "rateLimit: algorithm": (v) => () => db.rateLimit("r", { limit: 1, per: "1s", algorithm: v }),
  "rateLimit: burst": (v) => () =>
    db.rateLimit(fresh(), { limit: 1, per: "1s", algorithm: "token-bucket", burst: v }).try(),
  "try: options": (v) => () => limit.try(v),
  "try: key": (v) => () => limit.try({ key: v }),
  "try: cost": (v) => () => limit.try({ cost: v }),
  "wait: options": (v) => () => limit.wait(v),
  "wait: key": (v) => () => limit.wait({ key: v }),
  "wait: cost": (v) => () => limit.wait({ cost: v }),
  "wait: timeout": (v) => () => limit.wait({ timeout: v }),
  "wait: signal": (v) => () => limit.wait({ signal: v }),

  "scheduler.add: name": (v) => () => db.scheduler.add(v, schedule),
  "scheduler.add: options": (v) => () => db.scheduler.add(fresh(), v),
  "scheduler.add: cron": (v) => () => db.scheduler.add(fresh(), { cron: v, queue: "q" }),
  "scheduler.add: timezone": (v) => () =>
    db.scheduler.add(fresh(), { cron: "* * * * *", timezone: v, queue: "q" }),
  "scheduler.add: every": (v) => () => db.scheduler.add(fresh(), { every: v, queue: "q" }),
  "scheduler.add: queue": (v) => () => db.scheduler.add(fresh(), { every: "1s", queue: v }),
  "scheduler.add: task": (v) => () => db.scheduler.add(fresh(), { every: "1s", task: v }),
  "scheduler.add: payload": (v) => () => db.scheduler.add(fresh(), { ...schedule, payload: v }),
  "scheduler.add: jitter": (v) => () => db.scheduler.add(fresh(), { ...schedule, jitter: v }),
  "scheduler.add: startAt": (v) => () => db.scheduler.add(fresh(), { ...schedule, startAt: v }),
  "scheduler.add: endAt": (v) => () => db.scheduler.add(fresh(), { ...schedule, endAt: v }),
  "scheduler.add: enabled": (v) => () => db.scheduler.add(fresh(), { ...schedule, enabled: v }),
  "scheduler.add: missed": (v) => () => db.scheduler.add(fresh(), { ...schedule, missed: v }),
  "scheduler.add: missed ": (v) => () => db.scheduler.add(fresh(), { ...schedule, missed: { all: v } }),
  "scheduler.add: uniqueKey": (v) => () => db.scheduler.add(fresh(), { ...schedule, uniqueKey: v }),
  "scheduler.add: group": (v) => () => db.scheduler.add(fresh(), { ...schedule, group: v }),
  "scheduler.add: priority": (v) => () => db.scheduler.add(fresh(), { ...schedule, priority: v }),
  "scheduler.add: expiresIn": (v) => () => db.scheduler.add(fresh(), { ...schedule, expiresIn: v }),
  "scheduler.add: maxAttempts": (v) => () => db.scheduler.add(fresh(), { ...schedule, maxAttempts: v }),
  "scheduler.pause: name": (v) => () => db.scheduler.pause(v),
  "scheduler.resume: name": (v) => () => db.scheduler.resume(v),
  "scheduler.remove: name": (v) => () => db.scheduler.remove(v),
  "scheduler.trigger: name": (v) => () => db.scheduler.trigger(v),
  "scheduler.next: name": (v) => () => db.scheduler.next(v),
  "scheduler.next: count": (v) => () => db.scheduler.next("schedule", v),
  "scheduler.start: options": (v) => () => db.scheduler.start(v),

  "capture.add: table": (v) => () => db.capture.add(v, { into: { stream: "s" } }),
  "capture.add: options": (v) => () => db.capture.add("orders", v),
  "capture.add: on": (v) => () => db.capture.add("orders", { on: v, into: { stream: "s" } }),
  "capture.add: on ": (v) => () => db.capture.add("orders", { on: [v], into: { stream: "s" } }),
  "capture.add: columns": (v) => () => db.capture.add("orders", { columns: v, into: { stream: "s" } }),
  "capture.add: columns ": (v) => () => db.capture.add("orders", { columns: [v], into: { stream: "s" } }),
  "capture.add: when": (v) => () => db.capture.add("orders", { when: v, into: { stream: "s" } }),
  "capture.add: into": (v) => () => db.capture.add("orders", { into: v }),
  "capture.add: into ": (v) => () => db.capture.add("orders", { into: { stream: v } }),
  "capture.remove: table": (v) => () => db.capture.remove(v),

  "testDatabase: options": (v) => () => testDatabase(v),
  "testDatabase: file": (v) => () => testDatabase({ file: v }),
  "testDatabase: now": (v) => () => testDatabase({ now: v }),
  "clock.advance: ": (v) => () => testDatabase().clock.advance(v),
  "clock.set: ": (v) => () => testDatabase().clock.set(v),
  "drain: target": (v) => () => drain(v),
  "drain: options": (v) => () => drain(fixture, v),
  "drain: until": (v) => () => drain(testDatabase().queue("q"), { until: v, handlers: { q: () => {} } }),
  "drain: handlers": (v) => () => drain(fixture, { handlers: v }),
  "drain: handlers ": (v) => () => drain(fixture, { handlers: { q: v } }),
  "perform: task": (v) => () => perform(v, undefined),
  "perform: input": (v) => () => perform(handled, v),
  "busy: db": (v) => () => busy(v, 1),
  "busy: duration": (v) => () => busy(fixture, v),
  "failNext: queue": (v) => () => failNext(v, 1),
  "killWorker: worker": (v) => () => killWorker(v),
  "loseClaims: target": (v) => () => loseClaims(v),
  "UnrecoverableError: message": (v) => () => void new UnrecoverableError(String(typeof v), { cause: v }),
};

/** Messages that a JavaScript engine makes, for what was not looked at. */
const RAW =
  /undefined is not|null is not|is not an object|is not a function|is not iterable|evaluating|Cannot/;

/** @throws when an error does not tell what was wrong with which argument */
function assertTold(error: unknown, label: string): void {
  if (error === OWN) return;
  const isTyped = error instanceof TypeError || error instanceof RangeError;
  if (!isTyped && !(error instanceof HonkbunError))
    throw new Error(`${label}: of the wrong kind`, { cause: error });
  if (RAW.test(error.message)) throw new Error(`${label}: not looked at: ${error.message}`, { cause: error });
  const [call = "", argument = ""] = label.split(":").map((part) => part.trim());
  const isNamed = error.message.includes(call) || (argument !== "" && error.message.includes(argument));
  if (!isNamed) throw new Error(`${label}: it names neither: ${error.message}`, { cause: error });
}

/** Ends what a call has begun. */
async function end(result: Any): Promise<void> {
  if (typeof result?.clock?.advance === "function" || typeof result?.shutdown === "function") result.close();
  else if (typeof result?.stop === "function") await result.stop({ timeout: 0 });
  else if (typeof result?.return === "function") await result.return();
  else if (typeof result?.[Symbol.dispose] === "function") result[Symbol.dispose]();
}

const version = (): unknown => watcher.query("PRAGMA data_version").values()[0]?.[0];

/** Makes the call: it works, or it throws what tells of it, and has written nothing. */
async function call(label: string, value: unknown): Promise<"works" | "throws"> {
  const prepared = CALLS[label]?.(value) ?? throws;
  version();
  const before = version();
  try {
    const returned = prepared();
    const isPromise = returned instanceof Promise && returned !== value;
    const result = isPromise ? await Promise.race([returned, Bun.sleep(2_000).then(() => OWN)]) : returned;
    if (result === OWN && isPromise) throw new Error(`${label}: it hangs`);
    await end(result);
    return "works";
  } catch (error) {
    assertTold(error, label);
    if (version() !== before) throw new Error(`${label}: something was written`, { cause: error });
    return "throws";
  }
}

/** What was not as it should be. */
async function complaints(pairs: Iterable<readonly [string, string, unknown]>): Promise<string[]> {
  const found: string[] = [];
  for (const [label, what, value] of pairs) {
    try {
      await call(label, value);
    } catch (error) {
      found.push(`${(error as Error).message} (${what})`);
    }
  }
  return found;
}

/** Columns whose values are not of their type, or beyond what a number holds: whoever reads them strictly would fail. */
function misfits(): string[] {
  const columns = watcher
    .query<{ at: string; name: string; type: string }, []>(
      `SELECT tables.name AS at, columns.name, columns.type FROM sqlite_schema AS tables, pragma_table_xinfo(tables.name) AS columns
       WHERE tables.type = 'table' AND tables.name GLOB '_honk*'`,
    )
    .all();
  return columns.flatMap(({ at, name, type }) => {
    const right =
      type === "INTEGER"
        ? `typeof(c) = 'integer' AND abs(c) <= ${Number.MAX_SAFE_INTEGER}`
        : "typeof(c) = 'text'";
    const sql = `SELECT c FROM (SELECT ${name} AS c FROM ${at}) WHERE c IS NOT NULL AND NOT (${right}) LIMIT 1`;
    return watcher
      .query<{ c: unknown }, []>(sql)
      .all()
      .map(({ c }) => `${at}.${name}: ${String(c)}`);
  });
}

const LABELS = Object.keys(CALLS);

test("every argument works, or is refused by an error that names it, and then nothing is written", async () => {
  const pairs = LABELS.flatMap((label) =>
    Object.entries(VALUES).map(([what, value]) => [label, what, value] as const),
  );
  expect(await complaints(pairs)).toEqual([]);
}, 120_000);

/** What SQLite, or JSON, would make another value of. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  "half a surrogate pair": LABELS.filter((label) =>
    /: (file|name|topic|consumer|channel|key|uniqueKey|group|owner|queue|table|into|to|timezone|cron)\s*$/.test(
      label,
    ),
  ).filter((label) => !/^(work|on|drain|failNext|scheduler.pause): /.test(label)),
  ...Object.fromEntries(
    ["2^53", "2^63", "a fraction", "NaN", "a BigInt", "a number as text", "null", "-1"].map((what) => [
      what,
      LABELS.filter((label) => /: (id|job|cost|count|from|after)\s*$/.test(label)),
    ]),
  ),
  "an array with a hole": ["enqueue: after", "enqueueMany: after", "enqueueAsync: after", "ackBatch: jobs"],
  "an array of a hole": [
    "enqueue: after",
    "ackBatch: jobs",
    "dead.retry: which",
    "dead.purge: which",
    "listen: channel",
  ],
  "an array of ids beyond 2^53": ["enqueue: after", "dead.retry: which", "dead.purge: which"],
  "an array of ids as strings": ["enqueue: after", "dead.retry: which", "dead.purge: which"],
};

test("what would be stored, or looked for, as something else is refused", async () => {
  const accepted: string[] = [];
  for (const [what, labels] of Object.entries(REFUSED)) {
    expect(labels.length).toBeGreaterThan(2);
    for (const label of labels) {
      if ((await call(label, VALUES[what])) === "works") accepted.push(`${label}: ${what}`);
    }
  }
  expect(accepted).toEqual([]);
});

test(
  "any value for any argument works, or is refused as well",
  async () => {
    const value = fc.oneof(
      fc.anything({
        withBigInt: true,
        withDate: true,
        withMap: true,
        withNullPrototype: true,
        withSparseArray: true,
      }),
      fc.double(),
      fc.date({ noInvalidDate: false }),
      fc.string({ unit: "binary" }),
      fc.tuple(fc.double(), fc.constantFrom("ms", "s", "m", "h", "d")).map((parts) => parts.join("")),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...LABELS),
        value,
        async (label, any) => void (await call(label, any)),
      ),
      { numRuns },
    );
  },
  deadline,
);

// Last: of all that the calls above have stored.
test("what was stored is of the types that its columns have", () => {
  expect(misfits()).toEqual([]);
  assertIntegrity(folder.file());
  expect(errors).toEqual([]);
});
