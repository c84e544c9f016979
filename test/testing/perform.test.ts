import { describe, expect, test } from "bun:test";

import { z } from "zod";

import { ClaimLostError, open, PayloadError } from "../../src/index.ts";
import { failNext, loseClaims, perform, testDatabase } from "../../src/testing/index.ts";
import { eventually } from "../support/eventually.ts";

/** All rows that there are, by table: of jobs, and of what is kept of them. */
function rows(db: { readonly sqlite: import("bun:sqlite").Database }): Record<string, number> {
  const tables = db.sqlite
    .query<{ name: string }, []>(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '\\_honk%' ESCAPE '\\' AND name NOT LIKE '%migrations'",
    )
    .all();
  return Object.fromEntries(
    tables
      .map(({ name }): [string, number] => [
        name,
        db.sqlite.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${name}`).get()?.n ?? 0,
      ])
      .filter(([, n]) => n > 0),
  );
}

describe("perform", () => {
  test("runs a handler with what the schema makes of the input, and resolves with its result", async () => {
    using db = testDatabase();
    const at = new Date("2030-01-01T00:00:00Z");
    const task = db.task(
      "t",
      {
        input: z.object({ at: z.coerce.date() }),
        output: z.object({ next: z.coerce.date() }),
        queue: "shared",
      },
      (input, job) => {
        expect(input).toEqual({ at });
        expect(job).toMatchObject({ queue: "shared", attempt: 1, maxAttempts: 3, payload: { at } });
        return { next: new Date(input.at.getTime() + 1) };
      },
    );
    expect(await perform(task, { at })).toEqual({ next: new Date(at.getTime() + 1) });
  });

  test("leaves nothing behind, however it ends", async () => {
    using db = testDatabase();
    const task = db.task("t", { input: z.string(), maxAttempts: 2 }, (how, job) => {
      job.progress({ half: true });
      if (how === "throws") throw new Error("down");
      if (how === "fails") job.fail(new Error("for good"));
      if (how === "snoozes") job.snooze("1h");
      return how;
    });
    const before = rows(db);
    expect(await perform(task, "returns")).toBe("returns");
    await expect(perform(task, "throws")).rejects.toThrow("down");
    await expect(perform(task, "fails")).rejects.toThrow("for good");
    await expect(perform(task, "snoozes")).rejects.toThrow(
      "the handler of t has not completed its job, which is snoozed",
    );
    expect(rows(db)).toEqual(before);
    expect(task).not.toHaveEnqueued();
    expect(task.queue).toBeEmpty();
  });

  test("keeps the job from workers, and runs beside what is in the queue", async () => {
    using db = testDatabase();
    let runs = 0;
    const task = db.task("t", { input: z.number() }, (n) => {
      runs++;
      return n;
    });
    task.queue.pause();
    task.enqueue(1);
    await using _ = db.work({ scheduler: false });
    expect(await Promise.all([2, 3, 4].map((n) => perform(task, n)))).toEqual([2, 3, 4]);
    expect(runs).toBe(3);
    expect(task.queue.counts().ready).toBe(1);
  });

  test("lets a handler settle its job in a transaction", async () => {
    using db = testDatabase();
    db.sqlite.run("CREATE TABLE done (n INTEGER)");
    const task = db.task("t", { input: z.number() }, (n, job): string | undefined => {
      db.transaction((tx) => {
        tx.run("INSERT INTO done VALUES (?)", [n]);
        job.ack({ result: "acked", tx });
      });
      return undefined;
    });
    expect(await perform(task, 1)).toBe("acked");
    expect(db.sqlite.query("SELECT n FROM done").all()).toEqual([{ n: 1 }]);
  });

  test("rejects for an input, and for a result, that does not fit", async () => {
    using db = testDatabase();
    let runs = 0;
    const task = db.task("t", { input: z.string(), output: z.number() }, () => {
      runs++;
      return "no number" as never;
    });
    await expect(perform(task, 1 as never)).rejects.toThrow(PayloadError);
    expect(runs).toBe(0);
    await expect(perform(task, "a")).rejects.toThrow(PayloadError);
    expect(runs).toBe(1);
  });

  test("ends a handler that takes longer than its timeout, by the clock of the database", async () => {
    using db = testDatabase();
    let isAborted = false;
    const task = db.task("t", { timeout: "30s" }, async (_, job) => {
      const { promise, reject } = Promise.withResolvers<void>();
      job.signal.addEventListener("abort", () => {
        isAborted = true;
        reject(job.signal.reason);
      });
      await promise;
    });
    const performing = perform(task, undefined);
    performing.catch(() => {});
    await eventually(
      () => db.sqlite.query("SELECT 1 FROM _honker_live WHERE state = 'processing'").get() !== null,
      "it runs",
    );
    for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
    db.clock.advance("29s");
    expect(isAborted).toBe(false);
    db.clock.advance("1s");
    await expect(performing).rejects.toThrow("has been running for 30000 ms (timeout)");
  });

  test("rejects when the job is taken away, and when the database is closed", async () => {
    const db = testDatabase();
    const gate = Promise.withResolvers<void>();
    const task = db.task("t", {}, () => gate.promise);
    const taken = perform(task, undefined);
    taken.catch(() => {});
    for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
    expect(loseClaims(db)).toBe(1);
    await expect(taken).rejects.toThrow(ClaimLostError);
    const closed = perform(task, undefined);
    closed.catch(() => {});
    for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
    db.close();
    await expect(closed).rejects.toThrow("closed");
  });

  test("fails as failNext says, by the task's queue", async () => {
    using db = testDatabase();
    const task = db.task("t", {}, () => "done");
    failNext(task.queue, new Error("down"));
    await expect(perform(task, undefined)).rejects.toThrow("down");
    expect(await perform(task, undefined)).toBe("done");
  });

  test("works on a database of open, and on a file", async () => {
    using memory = open(":memory:");
    expect(
      await perform(
        memory.task("t", {}, () => 1),
        undefined,
      ),
    ).toBe(1);
    using file = testDatabase({ file: true });
    const before = rows(file);
    expect(
      await perform(
        file.task("t", {}, () => 2),
        undefined,
      ),
    ).toBe(2);
    delete before._honkbun_handles;
    expect(rows(file)).toEqual({ ...before, _honkbun_handles: 1 });
  });

  test("refuses what is no task, and one without a handler", async () => {
    using db = testDatabase();
    await expect(perform({} as never, undefined)).rejects.toThrow("task must be a task");
    await expect(perform(db.task("t", {}), undefined)).rejects.toThrow(
      "the task t has no handler in this process",
    );
  });
});
