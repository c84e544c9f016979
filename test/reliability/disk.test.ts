import { expect, test } from "bun:test";

import { Folder } from "../support/folder.ts";
import { hasNamespaces } from "../support/machine.ts";
import { Process } from "../support/process.ts";

/** Runs a program in a mount namespace of its own, in which its argument, a folder, is a small disk. */
function onSmallDisk(name: string, folder: string, megabytes: number): Process {
  const mount = `mount -t tmpfs -o size=${megabytes}m tmpfs "$0" && exec "$@"`;
  return new Process(
    { under: ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, folder], name },
    folder,
  );
}

interface Report {
  readonly refused: readonly string[];
  readonly reported: readonly string[];
  readonly acknowledged: readonly number[];
  readonly ran: readonly number[];
  readonly kept: number;
  readonly findings: readonly unknown[];
}

test.skipIf(!hasNamespaces)(
  "a full disk refuses what cannot be stored, loses nothing that was, and everything goes on once there is room",
  async () => {
    using folder = new Folder();
    await using program = onSmallDisk("full-disk", folder.path, 12);
    const { refused, reported, acknowledged, ran, kept, findings } = await program.read<Report>();
    expect(refused).toContain("SQLITE_FULL");
    // A worker that cannot write tells so, and tries again.
    expect(reported).not.toEqual([]);
    for (const code of reported) expect(code).toStartWith("SQLITE_");
    expect(acknowledged.length).toBeGreaterThan(10);
    expect(ran).toEqual(acknowledged.toSorted((a, b) => a - b));
    expect([kept, findings]).toEqual([1, []]);
  },
  60_000,
);
