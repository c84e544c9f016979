import { expect, test } from "bun:test";

import { Everything, sorted, WRITES } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";
import { hasNamespaces } from "../support/machine.ts";
import { Process } from "../support/process.ts";

test.skipIf(!hasNamespaces)(
  "where nothing can be written, calls say so, loops tell it once a second, and all goes on once it can",
  async () => {
    using folder = new Folder();
    await using everything = await Everything.start(folder.file());
    expect(await everything.failures()).toEqual({});
    await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
    await everything.call("enqueueLater");
    await everything.runSlowJob(); // ends when its end cannot be written

    everything.limit("fsize", 1);
    const failures = Object.fromEntries(WRITES.map((name) => [name, "SQLITE_IOERR_WRITE"]));
    expect(await everything.failures()).toEqual(failures);
    expect(await everything.call("counts")).toMatchObject({ value: { processing: 1 } }); // reads go on
    const told = ["worker of q", "scheduler", "renewal of locks", "renewal of claims"];
    const { ended } = await everything.until(
      ({ errors }) => told.every((where) => (errors[`${where}: SQLITE_IOERR_WRITE`] ?? 0) > 1),
      "each of the loops tells it, and tries again",
    );
    expect(ended).toEqual({});

    everything.limit("fsize", "unlimited");
    expect(await everything.failures()).toEqual({});
    expect(await everything.call("thread", 7)).toMatchObject({ value: 7 });
    const { ticks } = await everything.report();
    const { ran, heard, consumed } = await everything.finished();
    expect(sorted(ran)).toEqual(sorted(everything.jobs)); // once each
    expect(heard).toEqual(everything.notifications);
    expect(consumed).toEqual(everything.events);
    await everything.until((report) => report.ticks > ticks, "the scheduler goes on");
    expect(await everything.call("check")).toMatchObject({ value: [] });
    expect((await everything.report()).ended).toEqual({}); // the lock is held still
  },
  60_000,
);

test.skipIf(!hasNamespaces)(
  "a disk that is read-only is refused, one that has the file open cannot become it, and one that is writable again is taken",
  async () => {
    using folder = new Folder();
    const mount = 'mount -t tmpfs tmpfs "$0" && exec "$@"';
    const under = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, folder.path];
    await using program = new Process({ under, name: "remounter" }, folder.path);
    expect(await program.read()).toEqual({
      refused: "HONKBUN_OPEN_READ_ONLY",
      busy: expect.stringContaining("busy"),
      ran: ["before", "after"],
    });
  },
);
