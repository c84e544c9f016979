/** How long anything may take on a busy machine before a test gives up. */
const DEADLINE = 20_000;

/** Resolves once `condition` holds; rejects when it does not within the deadline. */
export async function eventually(
  condition: () => boolean,
  what: string,
  deadline: number = DEADLINE,
): Promise<void> {
  const end = performance.now() + deadline;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${deadline} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Resolves with the promise, or rejects after the deadline. */
export function within<T>(promise: Promise<T>, what: string, deadline: number = DEADLINE): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`not within ${deadline} ms: ${what}`)), deadline);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
