import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";

/** A thread needs two descriptors, and takes them a moment later: others may be about to. */
const SPARE = 32;

/** The threads of this process that run application code and that we know of. */
export const threads = { running: 0 };

/**
 * Makes sure that a thread can be started: one that finds no descriptor for its event loop ends the whole process (Bun 1.4).
 * @throws when there are no descriptors left
 */
export function assertDescriptorsLeft(): void {
  const taken: number[] = [];
  try {
    while (taken.length < SPARE) taken.push(openSync(devNull, "r"));
  } catch (cause) {
    throw new Error("no thread can be started: too few file descriptors are left", { cause });
  } finally {
    for (const descriptor of taken) closeSync(descriptor);
  }
}
