import { statSync } from "node:fs";

import type { Connection } from "../sqlite/connection.ts";
import { describePinned, inMegabytes, LONG_WAL, readersOf } from "../sqlite/long-wal.ts";
import type { Finding, WalInfo } from "./finding.ts";

/** Bytes that cannot be checkpointed, beyond which somebody is looked for who keeps them. */
const PINNED = 16_000_000;
/** It is looked so often, with so many milliseconds between, before anybody is said to keep them. */
const LOOKS = 10;
const PAUSE = 50;

interface Log {
  /** Pages. */
  readonly log: number;
  readonly checkpointed: number;
}

/**
 * Has as much of the WAL brought into the file as can be now, and says what is left, and why. When that is much it waits
 * half a second, for checkpoints and reads that end by themselves.
 */
export function checkWal(connection: Connection, path: string): { findings: Finding[]; wal: WalInfo } {
  const page = connection.prepare<{ page_size: number }>("PRAGMA page_size").get()?.page_size ?? 4_096;
  const { pendingBytes, readers } = lookAtWal(connection, path, page);
  const bytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  const findings: Finding[] = [];
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

function lookAtWal(
  connection: Connection,
  path: string,
  page: number,
): { readonly pendingBytes: number; readonly readers: readonly number[] } {
  let readers: readonly number[] | undefined;
  // While somebody else is at it nobody can tell what he will leave, or why.
  let isReached = false;
  for (let looks = 1; ; looks++) {
    const passive = ask(connection, "PASSIVE");
    isReached ||= passive !== undefined;
    const { log, checkpointed } = passive ?? ask(connection, "NOOP") ?? { log: 0, checkpointed: 0 };
    const pendingBytes = Math.max(log - checkpointed, 0) * page;
    // Less than that is what checkpoints leave beside workers that write all the time.
    if (pendingBytes <= PINNED) return { pendingBytes, readers: [] };
    const now = readersOf(path);
    readers = readers?.filter((pid) => now.includes(pid)) ?? now;
    if (looks === LOOKS) return { pendingBytes, readers: isReached ? readers : [] };
    Bun.sleepSync(PAUSE);
  }
}

/** Undefined when it cannot tell: somebody else is checkpointing, or the disk is full. */
function ask(connection: Connection, mode: "PASSIVE" | "NOOP"): Log | undefined {
  try {
    const wal = connection.prepare<Log>(`PRAGMA wal_checkpoint(${mode})`).get();
    return wal !== null && wal.log >= 0 ? wal : undefined;
  } catch {
    return undefined;
  }
}
