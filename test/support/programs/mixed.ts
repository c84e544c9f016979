// Does a bit of everything at once, until it is killed: enqueues, runs jobs, publishes, projects a stream, is a member of a group, and
// counts under a lock. Says the id of each job that is stored, and what it has done when it is asked. Once it is told to finish it adds
// nothing more, and goes on with what there is.
import { writeSync } from "node:fs";

import { LockLostError, open, WaitTimeoutError } from "../../../src/index.ts";
import { answer } from "./channel.ts";

/** How often this process has done what. */
export interface Done {
  jobs: number;
  enqueued: number;
  published: number;
  locks: number;
  delivered: number;
}

const did: Done = { jobs: 0, enqueued: 0, published: 0, locks: 0, delivered: 0 };
const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const queue = db.queue<{ n: number }>("q", { maxAttempts: 1_000, backoff: { type: "fixed", base: 20 } });
const stream = db.stream<number>("events");
let isOver = false;

/** At once: what is written later may be lost with the process. */
const tell = (message: unknown): void => void writeSync(1, `${JSON.stringify(message)}\n`);
const fail = (error: unknown): void => tell({ failed: String((error as Error).stack ?? error) });
db.on("error", ({ error }) => fail(error));

queue.work(
  (job) => {
    if (job.payload.n % 50 === job.attempt) throw new Error("not yet");
    db.transaction((tx) => {
      tx.run("INSERT INTO effects (job, attempt) VALUES (?, ?)", [job.id, job.attempt]);
      job.ack();
    });
    did.jobs++;
  },
  { concurrency: 4 },
);
stream.process("projection", ({ payload }, tx) => {
  tx.run("UPDATE projection SET events = events + 1, total = total + ?", [payload]);
});
stream.group("members").work(
  ({ offset }, delivery) => {
    db.transaction((tx) => {
      tx.run("INSERT INTO deliveries (offset) VALUES (?)", [offset]);
      delivery.ack();
    });
    did.delivered++;
  },
  { maxDeliveries: 1_000 },
);
const ticks = db.queue("ticks", { maxAttempts: 1_000 });
ticks.work((job) =>
  db.transaction((tx) => {
    tx.run("INSERT INTO ticks (at) VALUES (?)", [ticks.get(job.id)?.runAt.getTime() ?? 0]);
    job.ack();
  }),
);
db.scheduler.add("tick", { every: "1s", queue: "ticks", payload: 1 });
db.scheduler.start();

async function repeat(act: () => unknown, pause: number): Promise<void> {
  while (!isOver) {
    try {
      await act();
    } catch (error) {
      fail(error);
    }
    await Bun.sleep(pause * Math.random());
  }
}

let n = 0;
const producing = [
  repeat(() => {
    tell(queue.enqueue({ n: n++ }));
    did.enqueued++;
  }, 5),
  repeat(async () => {
    for (const id of await Promise.all(Array.from({ length: 5 }, () => queue.enqueueAsync({ n: n++ }))))
      tell(id);
  }, 10),
  repeat(() => {
    stream.publish(n++ % 10);
    did.published++;
  }, 5),
  repeat(async () => {
    try {
      await db.withLock(
        "counter",
        async (lock) => {
          const before =
            db.sqlite.query<{ value: number }, []>("SELECT value FROM counter").get()?.value ?? 0;
          await Bun.sleep(Math.random());
          db.transaction((tx) => {
            lock.guard();
            tx.run("UPDATE counter SET value = ?", [before + 1]);
            tx.run("INSERT INTO increments DEFAULT VALUES");
          });
        },
        { ttl: "5s", timeout: "10s" },
      );
      did.locks++;
    } catch (error) {
      if (!(error instanceof LockLostError || error instanceof WaitTimeoutError)) throw error;
    }
  }, 5),
];
await answer(async (message: "count" | "finish") => {
  if (message === "count") return { did };
  isOver = true;
  await Promise.all(producing);
  return "finishing";
});
