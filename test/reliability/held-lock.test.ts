import { expect, test } from "bun:test";

import { Everything, sorted } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";
import { hasShell } from "../support/machine.ts";

/** Milliseconds; more than some tries of every loop. RELIABILITY_HELD=30000 holds it longer. */
const HELD = Number(Bun.env.RELIABILITY_HELD ?? 3_000);
const WAITING = ["enqueue", "publish", "notify", "transaction", "tryLock", "rateLimit", "trigger"];

/** Another program, which is not honkbun, takes the write lock. Resolves with what ends it. */
async function hold(file: string): Promise<() => Promise<void>> {
  const shell = Bun.spawn(["sqlite3", file], { stdin: "pipe", stdout: "pipe" });
  shell.stdin.write(".timeout 5000\nBEGIN IMMEDIATE;\nSELECT 'held';\n");
  shell.stdin.flush();
  await shell.stdout.getReader().read();
  return async () => {
    shell.stdin.write("COMMIT;\n");
    await shell.stdin.end();
    await shell.exited;
  };
}

test.skipIf(!hasShell)(
  "while another program holds the write lock, calls give up after busyTimeout, loops wait without a word, and all goes on by itself",
  async () => {
    using folder = new Folder();
    await using everything = await Everything.start(folder.file(), { busyTimeout: "200ms" });
    await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
    await everything.call("enqueueLater");
    await everything.runSlowJob(); // ends when its end cannot be written

    const free = await hold(folder.file());
    const heldAt = performance.now();
    for (const call of WAITING) {
      const { code, took } = await everything.call(call);
      expect([call, code]).toEqual([call, "HONKBUN_BUSY"]);
      expect(took).toBeWithin(190, 1_000);
    }
    expect(await everything.call("counts")).toMatchObject({ value: { processing: 1 } }); // reads go on
    expect(await everything.call("lock")).toMatchObject({ code: "HONKBUN_WAIT_TIMEOUT" }); // waits without the event loop
    for (const call of ["enqueueAsync", "publishAsync"]) await everything.begin(call);
    await Bun.sleep(Math.max(HELD - (performance.now() - heldAt), 0));
    const { errors, ended, begun, longest, ticks } = await everything.report();
    expect([errors, ended, begun]).toEqual([{}, {}, {}]);
    expect(longest).toBeLessThan(150);

    await free();
    const after = await everything.until(
      (report) => report.begun.publishAsync !== undefined && report.ticks > ticks,
      "what waited is written, and the scheduler goes on",
    );
    expect(after.begun).toMatchObject({ enqueueAsync: { value: expect.any(Number) } });
    expect(await everything.failures()).toEqual({});
    const { ran } = await everything.finished();
    expect(sorted(ran)).toEqual(sorted(everything.jobs)); // once each
    expect((await everything.report()).ended).toEqual({}); // the lock is held still
    expect(await everything.call("check")).toMatchObject({ value: [] });
  },
  60_000,
);
