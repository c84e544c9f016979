import { Database } from "bun:sqlite";

import { type Honkbun, HonkbunError, open } from "../../src/index.ts";
import { eventually } from "./eventually.ts";
import { Folder } from "./folder.ts";

/** A file with a row in each table, and in the queue `q` the jobs `"spoilt"` and, behind it, `"good"`. */
export async function makeFile(): Promise<Uint8Array> {
  using folder = new Folder();
  const db = open(folder.file());
  db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)");
  const queue = db.queue<string>("q");
  const kept = db.queue<number, number>("kept", { keepResult: true });
  kept.enqueue(1);
  kept.claimBatch(1)[0]?.ack({ result: 5 });
  queue.enqueue("dead", { uniqueKey: "dead", group: "dead" });
  const [dead] = queue.claimBatch(1);
  dead?.progress(50);
  dead?.fail("no");
  queue.enqueue("ended", { uniqueKey: "window", uniqueFor: "1h" });
  queue.claimBatch(1)[0]?.ack();
  queue.cancel(queue.enqueue("cancelled"));
  queue.enqueue("spoilt", { priority: 5 });
  queue.enqueueMany(["first", "second"], { group: "g" });
  queue.enqueue("child", { after: [queue.enqueue("parent", { delay: "1h" })] });
  queue.setLimits({ concurrency: 100, rate: { limit: 1_000, per: "1s" } });
  queue.setLimits({
    keepCompleted: { maxAge: "1h", maxCount: 10 },
    keepDead: { maxAge: "1h", maxCount: 100 },
  });
  db.queue("held").enqueue(1);
  db.queue("held").claimBatch("somebody", 1);
  const stream = db.stream<unknown>("s");
  stream.publishMany([1, 2, 3], { key: "k" });
  stream.seek("consumer", 1);
  const group = stream.group("group").work(() => {});
  await eventually(() => stream.group("group").lag() === 0, "the group has begun");
  await group.stop();
  stream.publish(4);
  db.notify("channel", 1);
  db.tryLock("lock", { ttl: "1h" });
  db.rateLimit("fixed", { limit: 5, per: "1h" }).try();
  db.rateLimit("bucket", { limit: 5, per: "1h", algorithm: "token-bucket" }).try();
  db.scheduler.add("every", { every: "1h", queue: "scheduled" });
  db.scheduler.add("cron", { cron: "0 0 * * *", timezone: "Europe/Berlin", queue: "scheduled" });
  db.sqlite.run(
    `INSERT INTO _honker_scheduler_tasks (name, queue, cron_expr, payload, next_fire_at)
     VALUES ('honker', 'scheduled', '@every 5s', '1', unixepoch() - 1)`,
  );
  db.capture.add("orders", { into: { stream: "changes" } });
  queue.enqueue("good", { priority: -100 });
  using copy = new Database(folder.file());
  const image = copy.serialize(); // before it is closed: its claims and locks are held
  db.close();
  return image;
}

/** Messages that a JavaScript engine makes, for what was not looked at. */
const RAW =
  /undefined is not|null is not|is not an object|is not a function|is not iterable|evaluating|Cannot/;

function isTold(error: unknown): boolean {
  if (error instanceof HonkbunError) return true;
  return (error instanceof TypeError || error instanceof RangeError) && !RAW.test(error.message);
}

/** More would be a loop. */
const MOST_ERRORS = 20;

/** Calls whatever reads of an open file, and has everything run. Returns what was not as it should be. */
export async function useAll(db: Honkbun): Promise<string[]> {
  const found: string[] = [];
  const errors: unknown[] = [];
  db.on("error", ({ error }) => void errors.push(error));
  const attempt = (what: string, call: () => unknown): void => {
    try {
      JSON.stringify(call());
    } catch (error) {
      if (!isTold(error)) found.push(`${what}: ${String(error)}`);
    }
  };
  const queue = db.queue<unknown>("q");
  const stream = db.stream<unknown>("s");
  const group = stream.group("group");
  const reads: Record<string, () => unknown> = {
    list: () => [queue, db.queue("kept"), db.queue("held")].map((one) => one.list()),
    get: () => Array.from({ length: 15 }, (_, id) => [queue.get(id), db.queue("kept").get(id)]),
    counts: () => [queue.counts(), queue.latency()],
    "dead.list": () => [queue.dead.list(), group.dead.list()],
    read: () => [stream.read(), stream.length(), stream.consumers()],
    last: () => stream.last(),
    group: () => [group.pending(), group.lag()],
    locks: () => [db.locks.list(), db.tryLock("lock")],
    "rateLimit fixed": () => db.rateLimit("fixed", { limit: 5, per: "1h" }).try(),
    "rateLimit bucket": () =>
      db.rateLimit("bucket", { limit: 5, per: "1h", algorithm: "token-bucket" }).try(),
    schedules: () => db.scheduler.list(),
    next: () => db.scheduler.next("every"),
    "next by cron": () => db.scheduler.next("cron"),
    "next of honker's": () => db.scheduler.next("honker"),
    trigger: () => db.scheduler.trigger("every"),
    capture: () => db.capture.list(),
    enqueue: () => queue.enqueue("window", { uniqueKey: "window" }),
    "enqueue to a group": () => queue.enqueue("third", { group: "g" }),
    trim: () => stream.trim({ maxAge: "7d" }),
    check: () => db.check(),
  };
  for (const [what, read] of Object.entries(reads)) attempt(what, read);

  const seen = new Set<string>();
  const note = (by: string) => (item: { readonly payload: unknown }) =>
    void seen.add(`${by} ${String(item.payload)}`);
  db.queue("other").enqueue("job");
  const running = [
    queue.work(note("q"), { concurrency: 2 }),
    db.queue("other").work(note("other")),
    stream.process("consumer", note("process"), { onError: "skip" }),
    group.work(note("group")),
    db.scheduler.start(),
  ];
  void (async () => {
    for await (const event of stream.subscribe({ consumer: "subscriber" })) note("subscribe")(event);
  })().catch((error) => errors.push(error));
  db.listen("channel", note("listen"));
  stream.publish("event");
  db.notify("channel", "notification");
  const wanted = ["q good", "other job", "listen notification", "process event", "group event"];
  const isDone = (): boolean => wanted.every((one) => seen.has(one));
  await eventually(isDone, "all is run", 1_000).catch(() => {
    found.push(`not run: ${wanted.filter((one) => !seen.has(one)).join(", ")}`);
  });
  for (const error of errors) if (!isTold(error)) found.push(`reported: ${String(error)}`);
  if (errors.length > MOST_ERRORS) found.push(`reported: ${errors.length} errors`);
  await Promise.allSettled(running.map((one) => one.stop({ timeout: 0 })));
  return [...new Set(found)];
}
