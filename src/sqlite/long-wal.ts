import { readFileSync, statSync } from "node:fs";

/** A WAL of so many bytes is longer than checkpoints leave it, unless something keeps them from their end. */
export const LONG_WAL = 64_000_000;
/** Where SQLite's readers hold their locks in the `-shm` file: each pins the WAL from where it began. */
const [FIRST_READER, LAST_READER] = [123, 127];

/** Processes that have a read transaction open which began before the latest writes; none where the system does not tell. */
export function readersOf(path: string): number[] {
  try {
    const inode = String(statSync(`${path}-shm`).ino);
    const pids = new Set<number>();
    for (const line of readFileSync("/proc/locks", "utf8").split("\n")) {
      // 1: POSIX  ADVISORY  READ  1234 08:01:5678 124 124
      const [, , , access, pid, file, first, last] = line.trim().split(/\s+/);
      if (access !== "READ" || file?.split(":")[2] !== inode) continue;
      if (Number(first) <= LAST_READER && Number(last) >= FIRST_READER) pids.add(Number(pid));
    }
    return [...pids];
  } catch {
    return [];
  }
}

/** Says how much of a WAL cannot be checkpointed, and why, as far as is known: who reads, and what SQLite has said. */
export function describePinned(bytes: number, readers: readonly number[], error: string | undefined): string {
  const who = readers.map((pid) => `process ${pid}`).join(", ");
  const reasons = [
    `${inMegabytes(bytes)} of the WAL cannot be checkpointed`,
    ...(who === "" ? [] : [`an old state of the file is read by ${who}`]),
    ...(error === undefined ? [] : [error]),
  ];
  return reasons.join(": ");
}

export function inMegabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
