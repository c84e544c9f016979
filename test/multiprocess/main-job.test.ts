import { expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

test("a row and its job commit together, and another process runs the job and acks it", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
  db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)");
  const emails = db.queue<{ order: number }>("emails");
  await using worker = new Process("order-worker", folder.file());
  expect(await worker.read<string>()).toBe("waiting");
  for (let order = 1; order <= 50; order++) {
    db.transaction((tx) => {
      tx.run("INSERT INTO orders (id, note) VALUES (?, 'new')", [order]);
      emails.enqueue({ order });
    });
    expect(await worker.read()).toEqual({ order, note: "new" });
  }
  const left = db.sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honker_live");
  await eventually(() => left.get()?.n === 0, "all are acked");
});

test("a job whose worker is killed runs again in another, and none is lost", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  const queue = db.queue<number>("q", { maxAttempts: 100, visibilityTimeout: "1s" });
  const JOBS = 20;
  for (let n = 0; n < JOBS; n++) queue.enqueue(n);
  const done = new Set<number>();
  for (let kills = 0; kills < 3; kills++) {
    await using worker = new Process("stuck-worker", folder.file(), 3);
    for (let n = 0; n < 3; n++) done.add((await worker.read<{ acked: number }>()).acked);
    const { stuck } = await worker.read<{ stuck: number }>();
    expect(done).not.toContain(stuck);
    worker.kill("SIGKILL"); // in the middle of that job
    await worker.exited;
  }
  for await (const job of queue.claim()) {
    done.add(job.payload);
    job.ack();
    if (done.size === JOBS) break;
  }
  expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_live").get()).toEqual({ n: 0 });
  expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_dead").get()).toEqual({ n: 0 });
  expect(db.sqlite.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
}, 60_000);
