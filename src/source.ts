import { onAbort } from "./signal.ts";

/** An attached source: attached when the call returns, detached by break, throw, its signal or `db.close()`. */
export interface Source<T> extends AsyncIterableIterator<T>, AsyncDisposable {}

interface Waiting<T> {
  readonly resolve: (result: IteratorResult<T>) => void;
  readonly reject: (error: unknown) => void;
}

/** Hand-written, not a generator: it is attached before the first `next()`, and `return()` ends a `next()` that waits. */
export abstract class PushSource<T> implements Source<T> {
  readonly #waiting: Waiting<T>[] = [];
  #items: T[] = [];
  #ended = false;
  #error: { readonly error: unknown } | undefined;
  #offAbort: () => void = () => {};

  /** To be called once at the end of the constructor. */
  protected attach(signal: AbortSignal | undefined): void {
    this.#offAbort = onAbort(signal, () => this.end());
  }

  /** Asked for an item while there is none: `push` it, now or later. */
  protected abstract demand(): void;

  /** Called once, when the source ends, however it does. */
  protected abstract detached(): void;

  /** How many items wait to be asked for. */
  protected get buffered(): number {
    return this.#items.length;
  }

  protected get isEnded(): boolean {
    return this.#ended;
  }

  /** How many calls of `next()` wait for an item. */
  protected get wanted(): number {
    return this.#waiting.length;
  }

  protected push(item: T): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#items.push(item);
    else waiting.resolve({ done: false, value: item });
  }

  next(): Promise<IteratorResult<T>> {
    const item = this.#items.shift();
    if (item !== undefined) return Promise.resolve({ done: false, value: item });
    if (this.#error !== undefined) {
      const { error } = this.#error;
      this.#error = undefined; // thrown once; then the source is at its end
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    const result = new Promise<IteratorResult<T>>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
    try {
      this.demand();
    } catch (error) {
      this.fail(error);
    }
    return result;
  }

  /** Detaches; a `next()` that waits ends normally. */
  return(): Promise<IteratorResult<T>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** Ends normally; what was not yet asked for is dropped. */
  end(): void {
    this.#items = [];
    this.#detach();
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
  }

  /** Ends with an error, thrown by the `next()` that waits, or by the one after what is still buffered. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#detach();
    const [first, ...others] = this.#waiting.splice(0);
    if (first === undefined) this.#error = { error };
    else first.reject(error);
    for (const { resolve } of others) resolve({ done: true, value: undefined });
  }

  #detach(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#offAbort();
    this.detached();
  }
}
