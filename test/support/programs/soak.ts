// Does a bit of everything at a steady pace, and says each second how it is.
import { heapStats } from "bun:jsc";
import { readdirSync } from "node:fs";

import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

/** Milliseconds between two of each. */
const PACE = 20;

export interface Health {
  /** Megabytes. */
  readonly memory: number;
  readonly descriptors: number;
  readonly objects: number;
  readonly timers: number;
  /** Milliseconds from enqueueing, in whatever process, to running in this one. */
  readonly p50: number;
  readonly p99: number;
  readonly errors: readonly string[];
}

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const errors: string[] = [];
db.on("error", ({ error, where }) => void errors.push(`${where}: ${String(error)}`));
const { signal } = new AbortController();

let latencies: number[] = [];
const queue = db.queue<{ at: number; n: number }, number>("q", { maxAttempts: 100, backoff: { base: 20 } });
queue.setLimits({ keepCompleted: { maxCount: 100 } });
queue.work(
  async ({ payload, attempt }) => {
    if (attempt === 1) latencies.push(Date.now() - payload.at);
    if (payload.n % 20 === 0 && attempt === 1) throw new Error("once more");
    await Bun.sleep(1);
    return payload.n;
  },
  { concurrency: 5, timeout: "1m", signal },
);
const ordered = db.queue<number>("ordered");
ordered.work(() => {}, { concurrency: 5 });
const events = db.stream<number>("events", { retain: { maxCount: 500 } });
events.process("projection", () => {});
events.group("members").work(() => {});
db.listen("channel", () => {});
const limit = db.rateLimit("limit", { limit: 1_000, per: "1s" });
db.scheduler.add("tick", { every: "1s", queue: "ordered", payload: 0 });
db.scheduler.start();

let n = 0;
const uses: (() => unknown)[] = [
  () => queue.enqueue({ at: Date.now(), n: n++ }),
  () => queue.enqueueAsync({ at: Date.now(), n: n++ }),
  () => ordered.enqueue(n, { group: `g${n % 7}`, uniqueKey: `k${n % 13}` }),
  () => events.publish(n, { key: `k${n % 5}` }),
  () => db.notify("channel", n),
  () => db.withLock("lock", () => Bun.sleep(1), { signal, timeout: "1m" }),
  () => limit.wait({ signal }),
  () => queue.waitResult(queue.enqueue({ at: Date.now(), n: 1 }), { signal, timeout: "1m" }),
  async () => {
    events.publish(n);
    for await (const _ of events.subscribe({ from: "start", signal })) break;
  },
];
for (const use of uses) {
  void (async () => {
    for (;;) {
      try {
        await use();
      } catch (error) {
        errors.push(String(error));
      }
      await Bun.sleep(PACE * (0.5 + Math.random()));
    }
  })();
}

for (;;) {
  await Bun.sleep(1_000);
  Bun.gc(true);
  const { objectCount, objectTypeCounts } = heapStats();
  const sorted = latencies.toSorted((a, b) => a - b);
  latencies = [];
  const share = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? 0;
  say({
    memory: process.memoryUsage().rss / 2 ** 20,
    descriptors: readdirSync("/proc/self/fd").length,
    objects: objectCount,
    timers: objectTypeCounts.Timeout ?? 0,
    p50: share(0.5),
    p99: share(0.99),
    errors: errors.splice(0),
  } satisfies Health);
}
