import { Process } from "./process.ts";

/** Opens the file in a process whom permissions bind, as they don't bind root. Resolves with its error, or null. */
export async function openUnprivileged(file: string): Promise<unknown> {
  await using process = new Process("open-once", file);
  return await process.read();
}
