import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const WAKE = { safetyInterval: false, mode: "watch" } as const;

describe("jobs of a worker that is killed", () => {
  for (const how of ["claim", "work", "batch"]) {
    test(`(${how}) are claimed at once by another, as the next attempt, though their claims hold for an hour`, async () => {
      using folder = new Folder();
      using db = open(folder.file(), { wake: WAKE });
      const queue = db.queue("q", { visibilityTimeout: "1h" });
      const id = queue.enqueue(1);
      await using holder = new Process("holder", folder.file(), how);
      expect(await holder.read<number>()).toBe(id);
      const retried: unknown[] = [];
      using _ = db.on("job:retried", (event) => void retried.push(event));
      const next = queue.claim().next();
      await new Promise((resolve) => setTimeout(resolve, 600)); // it is looked at, and lives
      expect(Bun.peek.status(next)).toBe("pending");
      holder.kill("SIGKILL");
      await holder.exited;
      const { value: job } = await within(next, "it is claimed", 5_000);
      expect(job).toMatchObject({ id, attempt: 2 });
      expect(retried).toMatchObject([{ id, queue: "q", attempt: 1 }]);
      expect(queue.get(id)?.errors).toMatchObject([
        { attempt: 1, message: `the process or thread ${holder.pid} of its worker is gone` },
      ]);
      expect(db.sqlite.query("SELECT pid FROM _honkbun_handles").all()).toEqual([{ pid: process.pid }]);
    });
  }

  test("are left to whoever opens the file next, when it was the last", async () => {
    using folder = new Folder();
    open(folder.file()).queue("q").enqueue(1);
    {
      await using holder = new Process("holder", folder.file(), "claim");
      await holder.read();
    }
    using db = open(folder.file(), { wake: WAKE });
    const { value: job } = await within(db.queue("q").claim().next(), "it is claimed", 5_000);
    expect(job.attempt).toBe(2);
  });

  test("are buried when it was their last attempt", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const id = db.queue("q").enqueue(1, { maxAttempts: 1 });
    await using holder = new Process("holder", folder.file(), "work");
    await holder.read();
    void db.queue("q").claim().next();
    holder.kill("SIGKILL");
    await eventually(() => db.queue("q").get(id)?.state === "dead", "it is buried", 5_000);
    expect(db.queue("q").get(id)?.errors[0]?.message).toContain("is gone");
  });

  test("stay claimed while it is suspended, and it goes on with them", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    db.queue("q").enqueue(1);
    await using holder = new Process("holder", folder.file(), "claim");
    await holder.read();
    holder.kill("SIGSTOP");
    const next = db.queue("q").claim().next();
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(Bun.peek.status(next)).toBe("pending");
    expect(db.queue("q").counts()).toMatchObject({ processing: 1 });
  });
});

describe("jobs of a worker of which it is unknown whether it lives", () => {
  for (const [what, under] of [
    ["in another pid namespace", ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]],
    ["with a /proc of another pid namespace", ["unshare", "--pid", "--fork", "--kill-child"]],
    ["in another time namespace", ["unshare", "--time", "--fork", "--kill-child"]],
  ] as const) {
    test(`(${what}) stay claimed until their visibility timeout is over`, async () => {
      using folder = new Folder();
      let skew = 0;
      using db = open(folder.file(), { wake: WAKE, clock: () => Date.now() + skew });
      const queue = db.queue("q");
      const id = queue.enqueue(1);
      await using holder = new Process({ under, name: "holder" }, folder.file(), "claim");
      expect(await holder.read<number>()).toBe(id);
      // Between processes that can judge each other, this is noticed.
      queue.enqueue(2);
      await using judged = new Process("holder", folder.file(), "claim");
      await judged.read();
      const next = queue.claim().next();
      judged.kill("SIGKILL");
      const { value: taken } = await within(next, "the other job is taken over", 5_000);
      expect(taken.payload).toBe(2);
      taken.ack();
      holder.kill("SIGKILL");
      await holder.exited;
      await new Promise((resolve) => setTimeout(resolve, 600));
      expect(queue.get(id)).toMatchObject({ state: "processing", attempts: 1 });
      skew = 3_602_000;
      expect(queue.claimBatch(1)).toMatchObject([{ id, attempt: 2 }]);
    });
  }
});

describe("jobs of a thread of this process", () => {
  test("are claimed at once by others when it has ended, and not before", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const queue = db.queue("q");
    const id = queue.enqueue(1);
    const program = new URL("../support/programs/holding-thread.ts", import.meta.url);
    const thread = new Worker(program, { argv: [folder.file()] });
    await new Promise((resolve) => thread.addEventListener("message", resolve, { once: true }));
    const next = queue.claim().next();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(Bun.peek.status(next)).toBe("pending");
    thread.terminate();
    const { value: job } = await within(next, "it is claimed", 5_000);
    expect(job).toMatchObject({ id, attempt: 2 });
  });
});

describe("the registry", () => {
  test("is written once, with the first claim, and by nobody who claims nothing", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const queue = db.queue("q");
    queue.enqueueMany([1, 2, 3]);
    const handles = (): unknown[] => db.sqlite.query("SELECT pid FROM _honkbun_handles").all();
    expect(handles()).toEqual([]);
    expect(() =>
      db.transaction(() => {
        queue.claimBatch(1);
        throw new Error("no");
      }),
    ).toThrow("no");
    await new Promise((resolve) => setImmediate(resolve));
    expect(handles()).toEqual([]);
    queue.claimBatch(1);
    expect(handles()).toEqual([{ pid: process.pid }]);
    queue.claimBatch(1);
    expect(handles()).toHaveLength(1);
  });

  test("is left on close, unless something is held still", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const handles = (): unknown[] => db.sqlite.query("SELECT pid FROM _honkbun_handles").all();
    for (const how of ["settled", "looping", "held"] as const) {
      const other = open(folder.file());
      const queue = other.queue(how);
      queue.enqueue(1);
      if (how === "looping") await queue.claim().next();
      else {
        const [job] = queue.claimBatch(1);
        if (how === "settled") job?.ack();
      }
      expect(handles()).toHaveLength(1);
      other.close();
      expect(handles()).toHaveLength(how === "held" ? 1 : 0);
    }
  });

  test("is looked at without writing", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    db.queue("q").enqueue(1);
    await using holder = new Process("holder", folder.file(), "claim");
    await holder.read();
    void db.queue("q").claim().next();
    await new Promise((resolve) => setTimeout(resolve, 100));
    const version = db.sqlite.query("PRAGMA data_version").get();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(db.sqlite.query("PRAGMA data_version").get()).toEqual(version);
  });

  test("of thousands of claims is worked off in portions", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: WAKE });
    const queue = db.queue<number>("q", { visibilityTimeout: "1h" });
    queue.enqueueMany(Array.from({ length: 5_000 }, (_, n) => n));
    queue.claimBatch(5_000);
    // As if another process had claimed them, whose pid is another's by now.
    db.sqlite.run("UPDATE _honkbun_handles SET handle = 'other', started_at = '1'");
    db.sqlite.run("UPDATE _honker_live SET worker_id = 'x~other.' || id");
    let turns = 0;
    const count = setInterval(() => turns++, 0);
    await within(queue.claim().next(), "one is claimed");
    await eventually(() => queue.counts().processing === 1, "all are freed");
    clearInterval(count);
    expect(turns).toBeGreaterThan(3);
  });
});
