import { scaled } from "../../support.ts";

/** Milliseconds for which something is done before it is measured, and while it is. */
const WARM_UP = scaled(300, 5);
const DURATION = scaled(1_500, 20);

/** How often per second it is done what `act` does, so many times each call. */
export async function rate(count: number, act: () => unknown): Promise<number> {
  for (const end = performance.now() + WARM_UP; performance.now() < end;) await act();
  let done = 0;
  const start = performance.now();
  for (const end = start + DURATION; performance.now() < end; done += count) await act();
  return done / ((performance.now() - start) / 1_000);
}

/** 0, 1, 2 … */
export function numbers(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, n) => from + n);
}
