/** Resolves in a later turn of the event loop, also under fake timers. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

const cell = new Int32Array(new SharedArrayBuffer(4));

/** Resolves after a millisecond of real time, also under fake timers. */
export async function nap(): Promise<void> {
  await Atomics.waitAsync(cell, 0, 0, 1).value;
}
