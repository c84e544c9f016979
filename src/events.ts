import { show } from "./duration.ts";

/** What `db.on` reports. */
export interface Events {
  /** Something failed in the background, where no call could throw. Without a listener it is printed to stderr. */
  error: { readonly error: unknown; readonly where: string };
}

/** Ends what it stands for when disposed. Disposing again does nothing. */
export interface Subscription extends Disposable {}

/** Typed listeners of one handle. What a listener throws is reported as `error` and stops nothing. */
export class Emitter {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<E extends keyof Events>(event: E, listener: (event: Events[E]) => void): Subscription {
    if (event !== "error") throw new TypeError(`on: there is no event ${show(event)}`);
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
    for (const listener of [...(listeners ?? [])]) {
      try {
        listener(value as never);
      } catch (error) {
        if (event === "error") console.error("honkbun: a listener of error threw:", error);
        else this.emit("error", { error, where: `a listener of ${event}` });
      }
    }
  }
}
