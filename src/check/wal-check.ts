import { readFileSync, statSync } from "node:fs";

import type { Connection } from "../sqlite/connection.ts";
import type { Finding, WalInfo } from "./finding.ts";

/** A WAL of so many bytes is longer than checkpoints leave it. */
const LARGE = 64_000_000;
/** Where SQLite's readers hold their locks in the `-shm` file: each pins the WAL from where it began. */
const [FIRST_READER, LAST_READER] = [124, 127];

/** Has as much of the WAL brought into the file as can be now, without waiting for anybody, and says what is left, and why. */
export function checkWal(connection: Connection, path: string): { findings: Finding[]; wal: WalInfo } {
  const page = connection.prepare<{ page_size: number }>("PRAGMA page_size").get()?.page_size ?? 4_096;
  const { log, checkpointed } = lookAtWal(connection);
  const bytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  const pendingBytes = Math.max(log - checkpointed, 0) * page;
  const findings: Finding[] = [];
  const readers = pendingBytes > 0 ? readersOf(path) : [];
  if (readers.length > 0) {
    findings.push({
      kind: "reader",
      message: `${inMegabytes(pendingBytes)} of the WAL cannot be checkpointed: ${readers.map((pid) => `process ${pid}`).join(", ")} reads an old state of the file`,
      advice:
        "A read transaction, or a statement that was not read to its end, has been left open there. Until it ends, the WAL grows with each write.",
    });
  }
  if (bytes > LARGE) {
    findings.push({
      kind: "wal",
      message: `the WAL has ${inMegabytes(bytes)}`,
      advice:
        readers.length > 0
          ? "It shrinks when those who read an old state have ended."
          : "Writers leave no pause in which it could be emptied, or did. PRAGMA wal_checkpoint(TRUNCATE) empties it, once nobody reads or writes.",
    });
  }
  return { findings, wal: { bytes, pendingBytes } };
}

function lookAtWal(connection: Connection): { readonly log: number; readonly checkpointed: number } {
  for (const mode of ["PASSIVE", "NOOP"]) {
    const wal = connection
      .prepare<{ log: number; checkpointed: number }>(`PRAGMA wal_checkpoint(${mode})`)
      .get();
    if (wal !== null && wal.log >= 0) return wal;
    // Somebody else is at it.
  }
  return { log: 0, checkpointed: 0 };
}

/** The processes that have a read transaction open which began before the latest writes; none where the system does not tell. */
function readersOf(path: string): number[] {
  try {
    const inode = statSync(`${path}-shm`).ino;
    const pids = new Set<number>();
    for (const line of readFileSync("/proc/locks", "utf8").split("\n")) {
      // 1: POSIX  ADVISORY  READ  1234 08:01:5678 124 124
      const [, , , access, pid = "", file = "", first = "", last = ""] = line.trim().split(/\s+/);
      if (access !== "READ" || file.split(":")[2] !== String(inode)) continue;
      if (Number(first) <= LAST_READER && Number(last) >= FIRST_READER) pids.add(Number(pid));
    }
    return [...pids];
  } catch {
    return [];
  }
}

function inMegabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
