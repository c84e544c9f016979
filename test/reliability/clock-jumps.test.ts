import { describe, expect, test } from "bun:test";

import { Everything, sorted } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";

const HOUR = 3_600_000;
const HALF = HOUR / 2;
/** Boundaries that a scheduler fires at most when it sees them late. */
const LATE = 10;

describe("when the clock jumps", () => {
  test.each([
    ["an hour forwards", HOUR],
    ["a day forwards", 24 * HOUR],
    ["an hour backwards", -HOUR],
    ["a day backwards", -24 * HOUR],
  ])(
    "%s, and back again, all goes on, each job is run once, and locks are held",
    async (_, by) => {
      using folder = new Folder();
      await using everything = await Everything.start(folder.file());
      expect(await everything.failures()).toEqual({});
      await everything.finished();
      const { ticks: before } = await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
      await everything.call("enqueueIn", HALF);
      everything.jobs.splice(everything.jobs.indexOf(HALF), 1); // not due yet
      await everything.call("enqueueSlow"); // runs while it jumps
      await everything.call("lock"); // a turn of the event loop later
      expect(await everything.call("counts")).toMatchObject({ value: { processing: 1 } });
      await everything.call("skew", by);

      expect(await everything.failures()).toEqual({});
      expect(await everything.call("rateLimit")).toMatchObject({ value: { allowed: true } });
      expect(await everything.call("thread", 7)).toMatchObject({ value: 7 });
      const there = await everything.finished();
      if (by > 0) await everything.until(({ ran }) => ran.includes(HALF), "what is due by now is run");
      else expect(there.ran).not.toContain(HALF);
      const { ticks } = await everything.until(
        (report) => report.ticks > before + 2,
        "the scheduler goes on",
      );
      expect(ticks - before).toBeLessThan(LATE + 10); // what lay between was nobody's to see

      await everything.call("skew", 0);
      expect(await everything.failures()).toEqual({});
      const { ran } = await everything.finished();
      expect(sorted(ran)).toEqual(sorted(by > 0 ? [...everything.jobs, HALF] : everything.jobs));
      await everything.until((report) => report.ticks > ticks + 2, "the scheduler goes on");
      const { ended, errors } = await everything.report();
      expect([ended, errors]).toEqual([{}, {}]);
      expect(await everything.call("check")).toMatchObject({ value: [] });
    },
    60_000,
  );

  test("forwards for two processes, whoever has lost a job to the other is told, and it ends once", async () => {
    using folder = new Folder();
    await using one = await Everything.start(folder.file());
    await using other = await Everything.start(folder.file());
    for (let n = 0; n < 8; n++) await one.call("enqueueSlow");
    await Promise.all([one.call("skew", HOUR), other.call("skew", HOUR)]);
    await one.call("notify"); // both look
    let told = 0;
    const end = performance.now() + 20_000;
    for (let isOver = false; !isOver;) {
      const reports = [await one.report(), await other.report()];
      for (const { errors, ended } of reports) {
        const { "worker of q: HONKBUN_CLAIM_LOST": lost = 0, ...rest } = errors;
        told += lost;
        expect([ended, rest]).toEqual([{}, {}]); // each has its lock
      }
      const ran = reports.flatMap((report) => report.ran);
      const { value } = await one.call("counts");
      isOver =
        one.jobs.every((n) => ran.includes(n)) &&
        ran.length === one.jobs.length + told &&
        Object.values(value as Record<string, number>).every((count) => count === 0);
      if (performance.now() > end) throw new Error(`ran ${ran}, and ${told} were told`);
      await Bun.sleep(20);
    }
  }, 60_000);
});
