import type { Context } from "../context.ts";
import { ClosedError, FileReplacedError, WaitTimeoutError } from "../errors.ts";
import { onAbort } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Rule } from "./rule.ts";

/** Somebody who waits to be allowed. */
interface Waiter {
  readonly cost: number;
  readonly allowed: () => void;
  readonly failed: (error: unknown) => void;
}

/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

/** Those of one handle who wait for the same limit, one after the other. */
export class Turns {
  readonly #context: Context;
  readonly #rule: Rule;
  readonly #name: string;
  readonly #ended: () => void;
  #waiting: Waiter[] = [];
  #isServing = false;

  /** `ended` is called when nobody waits any more. */
  constructor(context: Context, rule: Rule, name: string, ended: () => void) {
    this.#context = context;
    this.#rule = rule;
    this.#name = name;
    this.#ended = ended;
  }

  /** @throws WaitTimeoutError, the signal's reason */
  async wait(
    cost: number,
    label: string,
    { signal, timeout }: { readonly signal: AbortSignal | undefined; readonly timeout: number | undefined },
  ): Promise<void> {
    const { alarms } = this.#context;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { cost, allowed: resolve, failed: reject };
    this.#waiting.push(waiter);
    const offAbort = onAbort(signal, () => reject(signal?.reason));
    if (timeout !== undefined) {
      alarms.set(waiter, timeout, () =>
        reject(
          new WaitTimeoutError(
            `wait: the rate limit ${label} did not allow it within ${timeout} ms (timeout)`,
          ),
        ),
      );
    }
    if (!this.#isServing) void this.#serve();
    try {
      await promise;
    } finally {
      offAbort();
      alarms.clear(waiter);
      this.#remove(waiter);
    }
  }

  fail(error: Error): void {
    for (const { failed } of this.#waiting) failed(error);
  }

  #remove(waiter: Waiter): void {
    const isFirst = this.#waiting[0] === waiter;
    this.#waiting = this.#waiting.filter((one) => one !== waiter);
    if (this.#waiting.length > 0 && !isFirst) return;
    // The one behind it may ask for less.
    this.#context.alarms.clear(this);
    if (this.#waiting.length > 0) void this.#serve();
    else this.#ended();
  }

  #serveIn(wait: number): void {
    try {
      this.#context.alarms.set(
        this,
        wait,
        () => void this.#serve(),
        (error) => this.fail(error),
      );
    } catch (error) {
      this.fail(error as Error);
    }
  }

  async #serve(): Promise<void> {
    if (this.#isServing || this.#waiting.length === 0) return;
    this.#isServing = true;
    let wait = 0;
    try {
      const served = await this.#context.pool.loops.write((connection) => this.#serveOn(connection));
      wait = served.wait;
      this.#waiting = this.#waiting.filter((waiter) => !served.allowed.includes(waiter));
      for (const waiter of served.allowed) waiter.allowed();
    } catch (error) {
      if (error instanceof FileReplacedError || error instanceof ClosedError) return this.fail(error);
      this.#context.report(error, `rate limit ${this.#name}`);
      wait = PAUSE_AFTER_ERROR;
    }
    this.#isServing = false;
    if (this.#waiting.length === 0) this.#ended();
    else if (wait > 0) this.#serveIn(wait);
    else void this.#serve(); // somebody has come meanwhile
  }

  #serveOn(connection: Connection): { readonly allowed: readonly Waiter[]; readonly wait: number } {
    const now = this.#context.clock();
    const allowed: Waiter[] = [];
    for (const waiter of this.#waiting) {
      if (this.#rule.take(connection, this.#name, waiter.cost, now) === null) {
        return { allowed, wait: this.#rule.look(connection, this.#name, waiter.cost, now).retryAfter };
      }
      allowed.push(waiter);
    }
    return { allowed, wait: 0 };
  }
}
