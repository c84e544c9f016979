import { heapStats } from "bun:jsc";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { getEventListeners } from "node:events";

import { open } from "../../src/index.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { hasProc } from "../support/machine.ts";

// A program that lives for months uses one signal, its own shutdown's, with everything it begins and ends.
const TIMES = 150;
const ROUNDS = 5;
/** Kinds of objects that come and go as the engine compiles, later on a machine that is busy. */
const COMPILED = /Code|Executable|Structure|SymbolTable/;

const folder = new Folder();
const db = open(folder.file(), { wake: { safetyInterval: false } });
afterAll(() => {
  db.close();
  folder[Symbol.dispose]();
});

const shutdown = new AbortController();
const { signal } = shutdown;
const queue = db.queue<number, number>("q", { keepResult: "1s" });
queue.setLimits({ keepCompleted: { maxCount: 0 } });
const stream = db.stream<number>("s", { retain: { maxCount: 10 } });
const limit = db.rateLimit("limit", { limit: 1_000_000, per: "1s" });
const full = db.rateLimit("full", { limit: 1, per: "1h" });
full.try();
const doubled = db.task("doubled", {}, () => 1);

/** Everything that may be begun with a signal, begun and ended. */
const USES: Readonly<Record<string, () => unknown>> = {
  "queue.work": async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const handler = (): number => {
      resolve();
      return 1;
    };
    const worker = queue.work(handler, { signal, timeout: "1m" });
    queue.enqueue(1);
    await promise;
    await worker.stop({ timeout: "1m" });
  },
  "db.work": async () => {
    const worker = db.work({ signal });
    await doubled.enqueue().result({ signal, timeout: "1m" });
    await worker.stop();
  },
  "queue.claim": async () => {
    queue.enqueue(1);
    for await (const job of queue.claim({ signal, visibilityTimeout: "1m" })) {
      job.ack();
      break;
    }
  },
  "a claim that lives and dies with its job's signal": () => {
    queue.enqueue(1);
    const [job] = queue.claimBatch(1);
    job?.signal.addEventListener("abort", () => {});
    job?.heartbeat("1m");
    job?.ack();
  },
  "queue.waitResult": async () => {
    const id = queue.enqueue(1);
    const result = queue.waitResult(id, { signal, timeout: "1m" });
    queue.claimBatch(1)[0]?.ack({ result: 2 });
    expect(await result).toBe(2);
  },
  "queue.waitResult in vain": async () => {
    const id = queue.enqueue(1, { delay: "1h" });
    await queue.waitResult(id, { signal, timeout: 1 }).catch(() => {});
    queue.cancel(id);
  },
  "queue.watch": async () => {
    const id = queue.enqueue(1, { delay: "1h" });
    for await (const _ of queue.watch(id, { signal })) break;
    queue.cancel(id);
  },
  enqueueAsync: () => queue.enqueueAsync(1).then((id) => queue.cancel(id)),
  "a child after its parent": () => {
    const parent = queue.enqueue(1, { delay: "1h" });
    queue.enqueue(2, { after: [parent], uniqueKey: "k", group: "g" });
    queue.cancel(parent);
    queue.dead.purge("all");
  },
  "stream.subscribe": async () => {
    stream.publish(1);
    for await (const _ of stream.subscribe({ signal, consumer: "reader" })) break;
    await stream.subscribe({ signal, from: "end" }).return?.();
  },
  "stream.process": async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const running = stream.process("projection", () => resolve(), { signal });
    stream.publish(1);
    await promise;
    await running.stop();
  },
  "stream.group": async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const running = stream.group("members").work(() => resolve(), { signal });
    stream.publish(1);
    await promise;
    await running.stop();
  },
  "db.listen": async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    using _ = db.listen("channel", () => resolve(), { signal });
    db.notify("channel", 1);
    await promise;
  },
  "db.listen as a source": async () => {
    const source = db.listen("channel", { signal });
    db.notify("channel", 1);
    for await (const _ of source) break;
  },
  "db.lock": async () => {
    using _ = await db.lock("lock", { signal, timeout: "1m" });
  },
  "db.lock in vain": async () => {
    using _ = await db.lock("lock", { signal, timeout: "1m" });
    await db.lock("lock", { signal, timeout: 1 }).catch(() => {});
  },
  "db.withLock": () =>
    db.withLock("lock", (lock) => db.transaction(() => lock.guard()), { signal, ttl: "1m" }),
  "rateLimit.wait": () => limit.wait({ signal, timeout: "1m" }),
  "rateLimit.wait in vain": () => full.wait({ signal, timeout: 1 }).catch(() => {}),
  "scheduler.start": async () => {
    db.scheduler.add("hourly", { every: "1h", queue: "scheduled" });
    await db.scheduler.start({ signal }).stop();
    db.scheduler.remove("hourly");
  },
  "db.on": () => db.on("error", () => {})[Symbol.dispose](),
  "another handle": () => {
    using other = open(folder.file());
    other.queue("other").enqueue(1);
    other.queue("other").claimBatch(1)[0]?.ack();
  },
};

async function repeat(use: () => unknown, times: number): Promise<void> {
  for (let n = 0; n < times; n++) await use();
}

interface Held {
  /** On the signal. */
  readonly listeners: number;
  readonly descriptors: number;
  readonly timers: number;
  readonly objects: number;
}

async function held(): Promise<Held> {
  for (let round = 0; round < 2; round++) {
    await Bun.sleep(20); // what ends a moment later
    Bun.gc(true);
  }
  const { objectTypeCounts } = heapStats();
  const kinds = Object.entries(objectTypeCounts).filter(([kind]) => !COMPILED.test(kind));
  return {
    listeners: getEventListeners(signal, "abort").length,
    descriptors: openDescriptors(folder.path).length,
    timers: objectTypeCounts.Timeout ?? 0,
    objects: kinds.reduce((sum, [, count]) => sum + count, 0),
  };
}

beforeAll(async () => {
  for (const use of Object.values(USES)) await repeat(use, 30); // what is compiled, prepared and cached once
  await held();
}, 90_000);

test.skipIf(!hasProc).each(Object.entries(USES))(
  "%s leaves nothing behind, however often",
  async (_, use) => {
    await repeat(use, 20);
    // A leak grows in most rounds, and by all of them. What is cached, or a stack still refers to, comes in one and goes in another.
    const grown: Held[] = [];
    for (let before = await held(); grown.length < ROUNDS;) {
      await within(repeat(use, TIMES), "it was used", 60_000);
      const after = await held();
      grown.push({
        listeners: after.listeners,
        descriptors: after.descriptors - before.descriptors,
        timers: after.timers - before.timers,
        objects: after.objects - before.objects,
      });
      before = after;
    }
    // One may be about to end; those of a leak never do.
    expect(Math.min(...grown.map(({ listeners }) => listeners))).toBe(0);
    for (const what of ["descriptors", "timers", "objects"] as const) {
      const growth = grown.map((round) => round[what]);
      const middle = growth.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
      const all = growth.reduce((sum, one) => sum + one, 0);
      const isLeak = middle >= TIMES / 2 && all >= ROUNDS * TIMES * 0.8;
      expect([what, isLeak ? growth : "none"]).toEqual([what, "none"]);
    }
  },
  90_000,
);
