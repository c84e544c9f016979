import { show } from "./duration.ts";
import { isThenable } from "./thenable.ts";

/** What `db.on` reports. */
export interface Events {
  /** Something failed in the background, where no call could throw. Without a listener it is printed to stderr. */
  error: { readonly error: unknown; readonly where: string };
  /** An attempt failed, and another will follow. */
  "job:retried": JobEvent;
  /** A job was buried: failed for good, out of attempts, expired or unreadable. */
  "job:dead": JobEvent;
  /** A job was acknowledged. */
  "job:completed": JobEvent;
  /** A claim loop asked for its next job, or ended, without settling this one. */
  "job:unsettled": JobEvent;
}

/** What this process did to a job; reported once it is committed. */
export interface JobEvent {
  readonly id: number;
  readonly queue: string;
  /** The number of the attempt, from 1. */
  readonly attempt: number;
  readonly error?: unknown;
}

const EVENTS = new Set<string>([
  "error",
  "job:retried",
  "job:dead",
  "job:completed",
  "job:unsettled",
] satisfies (keyof Events)[]);

/** Ends what it stands for when disposed. Disposing again does nothing. */
export interface Subscription extends Disposable {}

/** Typed listeners of one handle. What a listener throws is reported as `error` and stops nothing. */
export class Emitter {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<E extends keyof Events>(event: E, listener: (event: Events[E]) => void): Subscription {
    if (!EVENTS.has(event)) throw new TypeError(`on: there is no event ${show(event)}`);
    if (typeof listener !== "function")
      throw new TypeError(`on: listener must be a function, got ${show(listener)}`);
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set);
    // Wrapped, so that one function given twice is two subscriptions.
    const entry = (value: Events[E]): void => listener(value);
    set.add(entry);
    return { [Symbol.dispose]: () => void set.delete(entry) };
  }

  emit<E extends keyof Events>(event: E, value: Events[E]): void {
    const listeners = this.#listeners.get(event);
    if (event === "error" && !listeners?.size) {
      const { error, where } = value as Events["error"];
      console.error(`honkbun: ${where}:`, error);
      return;
    }
    if (listeners === undefined) return;
    for (const listener of [...listeners]) {
      callListener(
        () => listener(value as never),
        (error) => {
          if (event === "error") console.error("honkbun: a listener of error threw:", error);
          else this.emit("error", { error, where: `a listener of ${event}` });
        },
      );
    }
  }
}

/** Calls what the application gave us; what it throws, or rejects with if it is asynchronous, goes to `failed`. */
export function callListener(listener: () => unknown, failed: (error: unknown) => void): void {
  try {
    const result = listener();
    if (isThenable(result)) result.then(undefined, failed);
  } catch (error) {
    failed(error);
  }
}
