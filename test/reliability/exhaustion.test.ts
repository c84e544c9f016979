import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { within } from "../support/eventually.ts";
import { Everything } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";
import { hasNamespaces, hasProc } from "../support/machine.ts";
import { Process } from "../support/process.ts";

interface Report {
  readonly mode: string;
  readonly heard: readonly unknown[];
  readonly results: readonly unknown[];
  readonly errors: readonly string[];
  readonly size: number;
}

/** A process that can have so many descriptors. */
function exhausted(folder: Folder): Process {
  const under = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"];
  return new Process({ under, name: "exhausted" }, folder.file());
}

async function until(process: Process, fits: (report: Report) => boolean, what: string): Promise<Report> {
  const found = (async () => {
    for (;;) {
      const report = await process.ask<Report>("report");
      if (fits(report)) return report;
      await Bun.sleep(20);
    }
  })();
  return await within(found, what);
}

describe.skipIf(!hasProc)("without a file descriptor left", () => {
  test("wakes come by polling, nothing else can be opened, and it is watched again once there are some", async () => {
    using folder = new Folder();
    await using process = exhausted(folder);
    await process.read();
    expect(await process.ask("exhaust")).toBe("EMFILE");
    await process.ask("listen");
    await using writer = new Process("foreign-writer", folder.file());
    await writer.ask({ notify: "c" });
    await until(process, ({ heard, mode }) => heard.length === 1 && mode === "poll", "it hears by polling");
    expect(await process.ask("open")).toBe("HONKBUN_OPEN_FAILED");
    await process.ask("free");
    await until(process, ({ mode }) => mode === "watch", "it watches again");
    await writer.ask({ notify: "c" });
    const { errors } = await until(process, ({ heard }) => heard.length === 2, "it hears");
    expect(errors).toEqual([]);
  });

  test("a log that has grown does not end the process, and is checkpointed later", async () => {
    using folder = new Folder();
    await using process = exhausted(folder);
    await process.read();
    await process.ask("exhaust");
    await process.ask("write");
    await process.ask("write");
    await process.ask("free");
    await process.ask("write");
    await until(process, ({ size }) => size > 10_000_000, "it is checkpointed");
    using db = open(folder.file());
    expect(db.queue("q").counts()).toMatchObject({ ready: 0, delayed: 300 });
  });

  test("a job that needs a thread does not end the process, and is run later", async () => {
    using folder = new Folder();
    await using process = exhausted(folder);
    await process.read();
    await process.ask("exhaust");
    await process.ask("work");
    await until(process, ({ errors }) => errors.length > 0, "it is told");
    await process.ask("free");
    await until(process, ({ results }) => results[0] === 1, "it is run");
  });
});

describe.skipIf(!hasNamespaces)("without inotify", () => {
  test.each(["max_inotify_instances", "max_inotify_watches"])(
    "wakes come by polling, and it is watched once there is: %s",
    async (limit) => {
      using folder = new Folder();
      const path = `/proc/sys/user/${limit}`;
      // In a namespace of its own, whose limits concern nobody else.
      const under = ["unshare", "--map-root-user", "sh", "-c", `echo 0 > ${path} && exec "$@"`, "sh"];
      await using everything = await Everything.start(folder.file(), { under });
      await using other = await Everything.start(folder.file());
      await other.call("notify");
      await everything.until(
        ({ heard, mode }) => heard.length === 1 && mode === "poll",
        "it hears by polling",
      );
      const enter = ["nsenter", "--target", `${everything.pid}`, "--user", "sh", "-c", `echo 64 > ${path}`];
      expect(Bun.spawnSync(enter).stderr.toString()).toBe("");
      await everything.until(({ mode }) => mode === "watch", "it watches");
      await other.call("notify");
      const { ended } = await everything.until(({ heard }) => heard.length === 2, "it hears");
      expect(ended).toEqual({});
    },
    60_000,
  );
});
