import { expect, test } from "bun:test";

import * as fc from "fast-check";
import { z } from "zod";

import { testDatabase } from "../../src/testing/index.ts";
import { eventually } from "../support/eventually.ts";
import { runs } from "../support/runs.ts";

// Whatever JSON can hold comes back as it was, by every way on which something is stored.
const { numRuns, deadline } = runs(0.05);

test(
  "any payload, result, progress, event and notification comes back as JSON has it",
  async () => {
    using db = testDatabase();
    const queue = db.queue<unknown, unknown>("q", { keepResult: true });
    const stream = db.stream<unknown>("s");
    const task = db.task("t", { input: z.unknown(), output: z.unknown() });
    const notified: unknown[] = [];
    db.listen("c", ({ payload }) => void notified.push(payload));
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ stringUnit: "binary" }), async (given) => {
        const value = JSON.parse(JSON.stringify(given)) as unknown; // there is no -0
        const [id] = queue.enqueueMany([given]);
        const [job] = queue.claimBatch(1);
        job?.progress(given);
        job?.ack({ result: given });
        const info = queue.get(id as number);
        const [tried] = [await queue.enqueueAsync(given)].map(() => queue.claimBatch(1)[0]);
        tried?.fail("no");
        const dead = queue.dead.list()[0];
        queue.dead.purge("all");
        const offset = stream.publish(given);
        const run = task.enqueue(given);
        db.scheduler.add("n", { every: "1h", queue: "scheduled", payload: given });
        const scheduled = db.queue("scheduled").get(db.scheduler.trigger("n"));
        db.notify("c", given);
        await eventually(() => notified.length === 1, "it is delivered");
        const found = [
          job?.payload,
          info?.payload,
          info?.progress,
          info?.result,
          await queue.waitResult(id as number),
        ];
        found.push(tried?.payload, dead?.payload, stream.read({ after: offset - 1 })[0]?.payload);
        found.push(run.get()?.payload, scheduled?.payload, notified.pop());
        expect(found).toStrictEqual(found.map(() => value));
      }),
      { numRuns },
    );
  },
  deadline,
);

test.each([
  ["a BigInt", 1n],
  ["a function", () => 1],
  ["a symbol", Symbol("s")],
  ["a cyclic object", []],
])("%s is refused as a payload wherever there is one, and nothing is stored", async (_, value) => {
  using db = testDatabase();
  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  const given = Array.isArray(value) ? cyclic : value;
  const queue = db.queue<unknown, unknown>("q", { keepResult: true });
  queue.enqueue("job");
  const [job] = queue.claimBatch(1);
  const sends: (() => unknown)[] = [
    () => queue.enqueue(given),
    () => queue.enqueueMany([1, given]),
    () => queue.enqueueAsync(given),
    () => queue.update(1, { payload: given }),
    () => job?.ack({ result: given }),
    () => job?.progress(given),
    () => db.stream<unknown>("s").publish(given),
    () => db.stream<unknown>("s").publishMany([1, given]),
    () => db.stream<unknown>("s").publishAsync(given),
    () => db.notify("c", given),
    () => db.scheduler.add("n", { every: "1h", queue: "q", payload: given }),
    () => db.task("t", { input: z.unknown() }).enqueue(given),
  ];
  const before = db.sqlite.query("SELECT total_changes()").values();
  for (const send of sends) {
    const error: unknown = await Promise.try(send).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "HONKBUN_PAYLOAD" });
  }
  expect(db.sqlite.query("SELECT total_changes()").values()).toEqual(before);
});
