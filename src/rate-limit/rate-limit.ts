import type { Context } from "../context.ts";
import { ClosedError } from "../errors.ts";
import { assertKnown } from "../options.ts";
import type { Upkeep } from "../upkeep.ts";
import { readWaitOptions, type WaitOptions } from "../wait-options.ts";
import { type RateLimitOptions, readCost, readRateLimit, storedName } from "./rate-limit-options.ts";
import type { RateLimitResult, Rule } from "./rule.ts";
import { sweeping } from "./sweeping.ts";
import { Turns } from "./turns.ts";

const TRY = new Set(["key", "cost"]);

export interface RateLimitRequest {
  /** Each key has a limit of its own. */
  readonly key?: string | undefined;
  /** For how many it counts. Default 1. */
  readonly cost?: number | undefined;
}

/** What all rate limits of a honkbun handle share. */
export class RateLimits {
  readonly context: Context;
  readonly upkeep: Upkeep;
  /** Where somebody waits. */
  readonly turns: Set<Turns> = new Set();

  constructor(context: Context) {
    this.context = context;
    this.upkeep = sweeping(context);
  }

  /** The handle is closed. */
  end(reason: Error): void {
    for (const turns of this.turns) turns.fail(reason);
  }
}

/** How much of something is allowed in a time, for all processes together. Handles are cheap; the options belong to the handle. */
export class RateLimit {
  readonly name: string;
  readonly #limits: RateLimits;
  readonly #rule: Rule;
  readonly #turns = new Map<string, Turns>();

  /** @internal */
  constructor(limits: RateLimits, name: string, options: RateLimitOptions) {
    this.#rule = readRateLimit(name, options);
    this.name = name;
    this.#limits = limits;
  }

  /**
   * Counts, if the limit allows it, and says whether it did. What is refused is not counted. Joins the open `db.transaction`.
   * @throws TypeError, RangeError, BusyError, AmbiguousTransactionError
   */
  try(options?: RateLimitRequest): RateLimitResult {
    assertKnown("try", options, TRY);
    const { pool, clock } = this.#limits.context;
    const cost = readCost(options?.cost, this.#rule.most, "try");
    const name = storedName(this.name, options?.key, "try");
    const now = clock();
    const taken = pool.write(undefined, (connection) => this.#rule.take(connection, name, cost, now));
    this.#limits.upkeep.noticed(1);
    return taken ?? pool.read((connection) => this.#rule.look(connection, name, cost, now));
  }

  /**
   * Resolves when the limit allows it, and has counted it. Those who wait with one handle for the same key have their turns in the
   * order of coming; between processes there is no order. Never joins a transaction. Keeps the process alive.
   * @throws WaitTimeoutError, ClosedError, the signal's reason, TypeError, RangeError; all as rejections
   */
  async wait(options?: WaitOptions & RateLimitRequest): Promise<void> {
    const { key, cost, ...others } = options ?? {};
    const terms = readWaitOptions("wait", others);
    const counted = readCost(cost, this.#rule.most, "wait");
    const name = storedName(this.name, key, "wait");
    const { context, turns: all, upkeep } = this.#limits;
    if (context.pool.isClosed) throw new ClosedError("this honkbun handle is closed");
    terms.signal?.throwIfAborted();
    let turns = this.#turns.get(name);
    if (turns === undefined) {
      const added = new Turns(context, this.#rule, name, () => {
        if (this.#turns.get(name) === added) this.#turns.delete(name);
        all.delete(added);
      });
      turns = added;
      this.#turns.set(name, turns);
      all.add(turns);
    }
    await context.seams.wait(() => turns.wait(counted, this.name, terms));
    upkeep.noticed(1);
  }
}
