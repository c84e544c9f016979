/** What every call that waits takes. */
export interface SignalOption {
  /** Ends the wait: loops and iterators end normally, one-shot waits reject with `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** Calls `listener` when `signal` aborts, at once if it has; returns what takes the listener off again. */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) {
    listener();
    return () => {};
  }
  signal.addEventListener("abort", listener, { once: true });
  return () => signal.removeEventListener("abort", listener);
}
