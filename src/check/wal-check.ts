import { statSync } from "node:fs";

import type { Connection } from "../sqlite/connection.ts";
import { describePinned, inMegabytes, LONG_WAL, readersOf } from "../sqlite/long-wal.ts";
import type { Finding, WalInfo } from "./finding.ts";

/** Bytes that cannot be checkpointed, beyond which somebody is looked for who keeps them. */
const PINNED = 16_000_000;

/** Has as much of the WAL brought into the file as can be now, without waiting for anybody, and says what is left, and why. */
export function checkWal(connection: Connection, path: string): { findings: Finding[]; wal: WalInfo } {
  const page = connection.prepare<{ page_size: number }>("PRAGMA page_size").get()?.page_size ?? 4_096;
  const { log, checkpointed } = lookAtWal(connection);
  const bytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  const pendingBytes = Math.max(log - checkpointed, 0) * page;
  const findings: Finding[] = [];
  // Less than that is what checkpoints leave beside workers that write all the time.
  const readers = pendingBytes > PINNED ? readersOf(path) : [];
  if (readers.length > 0) {
    findings.push({
      kind: "reader",
      message: describePinned(pendingBytes, readers, undefined),
      advice:
        "A read transaction, or a statement that was not read to its end, has been left open there. Until it ends, the WAL grows with each write.",
    });
  }
  if (bytes > LONG_WAL) {
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
    try {
      const wal = connection
        .prepare<{ log: number; checkpointed: number }>(`PRAGMA wal_checkpoint(${mode})`)
        .get();
      if (wal !== null && wal.log >= 0) return wal; // else somebody is at it
    } catch {} // such as a full disk
  }
  return { log: 0, checkpointed: 0 };
}
