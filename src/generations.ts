/** A handle whose loops can be stopped. */
interface Retirable {
  retire(): Promise<void>;
}

const everything = globalThis as unknown as Record<symbol, unknown>;

function shared<T>(key: string, create: () => T): T {
  const symbol = Symbol.for(key);
  everything[symbol] ??= create();
  return everything[symbol] as T;
}

/**
 * The names of all handles of this thread that hold something, by whatever copy of this module. One of this very thread that is
 * not among them is of a program that ran here before: `bun --watch` starts the next one in the same process.
 */
export const handles: Set<string> = shared("honkbun.handles", () => new Set<string>());

const opened = shared(`honkbun.opened ${import.meta.url}`, () => new Set<WeakRef<Retirable>>());

// `bun --hot` evaluates all modules anew, in the same process: what the old ones have running would run beside the new.
for (const handle of opened) void handle.deref()?.retire();
opened.clear();

/** Has the handle's loops stopped when this module is evaluated anew. To call what it returns once they have ended. */
export function retireWhenReloaded(handle: Retirable): () => void {
  for (const other of opened) if (other.deref() === undefined) opened.delete(other); // never closed
  const reference = new WeakRef(handle);
  opened.add(reference);
  return () => void opened.delete(reference);
}
