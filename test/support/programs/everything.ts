// Has a loop of each module running, makes the calls that it is told to, and says what has become of all. Arguments: path, options
// of `open` as JSON.
import { open, type OpenOptions } from "../../../src/index.ts";
import type { Outcome, Report } from "../everything.ts";
import { answer, say } from "./channel.ts";

const [path = "", options = "{}"] = process.argv.slice(2);

function codeOf(error: unknown): string {
  const { code, name } = error as { readonly code?: string; readonly name: string };
  return code ?? name;
}

let unhandled = 0;
process.on("unhandledRejection", () => {
  unhandled++;
});

let skew = 0;
const db = open(path, {
  wake: { safetyInterval: false },
  clock: () => Date.now() + skew,
  ...(JSON.parse(options) as OpenOptions),
});
/** How often each was reported, by where it struck. */
let errors: Record<string, number> = {};
db.on("error", ({ error, where }) => {
  const what = `${where}: ${codeOf(error)}`;
  errors[what] = (errors[what] ?? 0) + 1;
});

/** What has ended, and how: a code, or "done". */
const ended: Record<string, string> = {};
function follow(what: string, end: Promise<unknown>): void {
  const note = (how: string): void => {
    ended[what] = how;
  };
  void end.then(
    () => note("done"),
    (error) => note(codeOf(error)),
  );
}

const ran: number[] = [];
const heard: number[] = [];
const consumed: number[] = [];
let ticks = 0;

const backoff = { type: "fixed", base: 50 } as const;
const queue = db.queue<{ n: number; takes?: number }>("q", { backoff, visibilityTimeout: "3s" });
const threads = db.queue<number>("threads", { backoff, keepResult: true });
const stream = db.stream<{ n: number }>("events");
const limit = db.rateLimit("limit", { limit: 1_000, per: "1m" });

const worker = queue.work(
  async ({ payload }) => {
    if (payload.takes !== undefined) await Bun.sleep(payload.takes);
    ran.push(payload.n);
  },
  { concurrency: 4 },
);
follow("worker", worker.stopped);
follow("threads", threads.work(new URL("../handlers/echo.ts", import.meta.url)).stopped);
db.listen<{ n: number }>("c", ({ payload }) => void heard.push(payload.n));
async function consume(): Promise<void> {
  for await (const { payload } of stream.subscribe({ consumer: "consumer" })) consumed.push(payload.n);
}
follow("consumer", consume());
db.queue("ticks").work(() => void ticks++);
db.scheduler.add("tick", { every: "1s", queue: "ticks", payload: null });
follow("scheduler", db.scheduler.start().stopped);
const lock = db.tryLock(`lock of ${process.pid}`, { ttl: "3s" });
lock?.signal.addEventListener("abort", () => {
  ended.lock = codeOf(lock.signal.reason);
});

const CALLS: Readonly<Record<string, (n: number) => unknown>> = {
  enqueue: (n) => queue.enqueue({ n }),
  enqueueAsync: (n) => queue.enqueueAsync({ n }),
  enqueueLater: (n) => queue.enqueue({ n }, { delay: 500 }),
  enqueueIn: (ms) => queue.enqueue({ n: ms }, { delay: ms }),
  enqueueSlow: (n) => queue.enqueue({ n, takes: 1_000 }),
  publish: (n) => stream.publish({ n }),
  publishAsync: (n) => stream.publishAsync({ n }),
  notify: (n) => db.notify("c", { n }),
  transaction: (n) => db.transaction(() => [queue.enqueue({ n }), stream.publish({ n })]),
  tryLock: () => db.tryLock("another")?.release(),
  lock: async () => (await db.lock("another", { timeout: "1s" })).release(),
  rateLimit: () => limit.try(),
  trigger: () => db.scheduler.trigger("tick"),
  counts: () => queue.counts(),
  list: () => queue.list({ state: "ready" }).length,
  thread: async (n) => {
    const id = threads.enqueue(n);
    return await threads.waitResult(id, { timeout: "5s" });
  },
  skew: (by) => {
    skew = by;
  },
  locks: () => db.locks.list(),
  check: () => db.check().findings,
  shutdown: () => db.shutdown({ timeout: "2s" }),
};

const PERIOD = 5;
let longest = 0;
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  longest = Math.max(longest, now - last - PERIOD);
  last = now;
}, PERIOD).unref();

async function outcome(call: string, n: number): Promise<Outcome> {
  const since = performance.now();
  try {
    const value = await CALLS[call]?.(n);
    return { value, took: performance.now() - since };
  } catch (error) {
    return { code: codeOf(error), message: (error as Error).message, took: performance.now() - since };
  } finally {
    last = performance.now(); // a call may wait
  }
}

/** Calls that are not waited for, and what came of them. */
const begun: Record<string, Outcome> = {};

type Message =
  | { readonly call: string; readonly n: number }
  | { readonly begin: string; readonly n: number }
  | { readonly report: true };

say("running");
await answer((message: Message) => {
  if ("call" in message) return outcome(message.call, message.n);
  if ("begin" in message) {
    void outcome(message.begin, message.n).then((end) => {
      begun[message.begin] = end;
    });
    return null;
  }
  const { mode } = db.stats().wake;
  const report: Report = { errors, ended, begun, unhandled, longest, ran, heard, consumed, ticks, mode };
  errors = {};
  longest = 0;
  return report;
});
