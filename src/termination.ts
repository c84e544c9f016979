/** What SIGTERM and SIGINT are for. */
export interface Target {
  /** At the first signal: end in order. */
  stop(): void;
  /** At the second: end at once. */
  kill(): void;
}

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** Whether each was told to stop. */
const targets = new Map<Target, boolean>();

/** Until `offTermination`, the process no longer ends by these signals itself. */
export function onTermination(target: Target): void {
  if (targets.size === 0) for (const signal of SIGNALS) process.on(signal, onSignal);
  targets.set(target, false);
}

export function offTermination(target: Target): void {
  if (!targets.delete(target) || targets.size > 0) return;
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

function onSignal(signal: NodeJS.Signals): void {
  const all = [...targets];
  if (all.some(([, isTold]) => !isTold)) {
    for (const [target] of all) targets.set(target, true);
    for (const [target, isTold] of all) if (!isTold) target.stop();
    return;
  }
  for (const [target] of all) {
    target.kill();
    offTermination(target);
  }
  process.kill(process.pid, signal); // as if we had never listened
}
