import { jest } from "bun:test";
import { MessageChannel, type MessagePort } from "node:worker_threads";

let doorbell: MessagePort | undefined;

/** Resolves in a later turn of the event loop, also under fake timers. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
    // `expect(promise).rejects` waits without a look at immediates; a message wakes it.
    doorbell ??= openDoorbell();
    doorbell.postMessage(0);
  });
}

function openDoorbell(): MessagePort {
  const { port1, port2 } = new MessageChannel();
  port1.on("message", () => {});
  port1.unref();
  return port2;
}

const cell = new Int32Array(new SharedArrayBuffer(4));

/** Resolves after so many milliseconds of real time, or some more, also under fake timers. */
export async function nap(milliseconds: number): Promise<void> {
  if (jest.isFakeTimers()) await Atomics.waitAsync(cell, 0, 0, milliseconds).value;
  else await Bun.sleep(milliseconds);
}
