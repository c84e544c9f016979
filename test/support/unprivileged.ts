import { Process } from "./process.ts";

const NOBODY = 65_534;

/** From here on permissions bind this process, as they don't bind root. */
export function dropPrivileges(): void {
  if (process.getuid?.() !== 0) return;
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
  if (process.getuid() === 0) throw new Error("still root, whom permissions don't bind");
}

/** Opens the file in a process whom permissions bind. Resolves with its error, or null. */
export async function openUnprivileged(file: string): Promise<unknown> {
  await using process = new Process("open-once", file);
  return await process.read();
}
