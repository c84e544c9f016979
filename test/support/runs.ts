/** Random sequences of a test that is quick; RELIABILITY_RUNS=100000 looks longer. */
const RUNS = Number(Bun.env.RELIABILITY_RUNS ?? 2_000);
/** Milliseconds that one takes at most, on a busy machine. */
const EACH = 200;

/** The options of `fc.assert` for a test of which so many run in the time of a quick one's, and how long it may take. */
export function runs(share: number): { readonly numRuns: number; readonly deadline: number } {
  const numRuns = Math.ceil(RUNS * share);
  return { numRuns, deadline: 60_000 + numRuns * EACH };
}
