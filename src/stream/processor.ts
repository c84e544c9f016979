import type { Duration } from "../duration.ts";
import { LONGEST_TIMER, toMilliseconds } from "../duration.ts";
import { ClosedError, FileReplacedError, PayloadError } from "../errors.ts";
import { assertKnown } from "../options.ts";
import type { Schema } from "../payload.ts";
import type { Running } from "../running.ts";
import { onAbort, type SignalOption } from "../signal.ts";
import { assertStored } from "../sqlite/stored.ts";
import { isThenable } from "../thenable.ts";
import type { Tx } from "../transaction-option.ts";
import { type StreamEvent, toEvent } from "./event.ts";
import type { Follower } from "./feed.ts";
import { type Position, resolvePosition, savedOffset } from "./position.ts";
import { type EventRow, prepareStreamStatements } from "./statements.ts";
import type { StreamContext } from "./stream-context.ts";
import { trimmedError, trimmedThrough } from "./trimming.ts";

/** Events of one transaction at most, and milliseconds after which it takes no further one. */
const BATCH = 200;
const BATCH_TIME = 5;
/** After a try in vain for the write lock: at first a millisecond, doubled up to this, each with jitter. */
const LONGEST_PAUSE = 16;
/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

export type OnEventError = "stop" | "skip" | "dead";

export interface ProcessOptions extends SignalOption {
  /** Where a consumer begins that has saved nothing. Default `"start"`. */
  readonly from?: Position | undefined;
  /**
   * What becomes of an event whose handler throws. `"stop"` (default): the consumer stops in front of it, and `stopped` rejects.
   * `"skip"`: it is passed over, and reported. `"dead"`: it is kept as a dead letter of the group of the consumer's name.
   */
  readonly onError?: OnEventError | undefined;
}

export type ProcessHandler<E> = (event: StreamEvent<E>, tx: Tx) => void;

/** What a processor needs of its stream. */
export interface ProcessorHost<E> {
  readonly context: StreamContext;
  readonly topic: string;
  readonly schema: Schema | undefined;
  readonly consumer: string;
  readonly handler: ProcessHandler<E>;
  readonly from: Position;
  readonly onError: OnEventError;
  /** Keeps an event as a dead letter, on the open transaction. */
  bury(row: EventRow, error: unknown): void;
}

/** What an event's handler has thrown, or that it could not be given what is stored. */
class EventFailure extends Error {
  readonly row: EventRow;

  constructor(row: EventRow, cause: unknown) {
    super("the handler failed", { cause });
    this.row = row;
  }
}

const STOP = new Set(["timeout"]);
const CONSUMERS = "_honker_stream_consumers";

/** Handles events in transactions of the application's connection, in which it is saved, too, how far they are handled. */
export class Processor<E> implements Running, Follower {
  readonly topic: string;
  readonly #host: ProcessorHost<E>;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #offAbort: () => void;
  readonly #begin: number;
  /** For who begins with whatever is left: up to this offset, what is trimmed before anything is saved is no gap. */
  readonly #present: number;
  #timer: Timer | undefined;
  #isStopping = false;
  #isOver = false;
  /** Set while there is nothing to do. */
  #wakeUp: (() => void) | undefined;
  #isWoken = false;
  #isIdle = false;
  /** Until this one is passed, events go one by one, to find out which of a batch has failed. */
  #suspect = 0;

  /** @throws FileReplacedError, ClosedError */
  constructor(host: ProcessorHost<E>, signal: AbortSignal | undefined) {
    this.#host = host;
    this.topic = host.topic;
    this.#stopped.promise.catch(() => {}); // whoever waits for it is told; `error` tells the others
    this.#isStopping = signal?.aborted === true;
    if (!this.#isStopping) host.context.feed.add(this);
    this.#offAbort = onAbort(signal, () => void this.stop());
    // Where it begins is decided now; when, in a later turn, so that the caller has what `process` returns.
    [this.#begin, this.#present] = this.#isStopping
      ? [0, 0]
      : host.context.pool.readCommitted((connection) => [
          resolvePosition(connection, host.topic, host.from),
          host.from === "start" ? resolvePosition(connection, host.topic, "end") : 0,
        ]);
    setImmediate(() => void this.#run());
  }

  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  get isBusy(): boolean {
    return !this.#isIdle && !this.#isOver;
  }

  /** What it saves is saved with its effects. */
  readonly unsaved = undefined;

  /** The batch that runs is one synchronous piece, so there is nothing for a timeout to cut off. */
  stop(options?: { readonly timeout?: Duration | undefined }): Promise<void> {
    assertKnown("stop", options, STOP);
    if (options?.timeout !== undefined) {
      const timeout = toMilliseconds(options.timeout, "stop: timeout");
      clearTimeout(this.#timer);
      if (!this.#isOver) this.#timer = setTimeout(() => this.end(), Math.min(timeout, LONGEST_TIMER));
    }
    this.#isStopping = true;
    this.wake();
    return this.stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  wake(): void {
    this.#isWoken = true;
    this.#isIdle = false;
    this.#wakeUp?.();
  }

  sought(consumer: string): void {
    if (consumer === this.#host.consumer) this.wake(); // the offset is read anew in each transaction
  }

  end(): void {
    this.#finish();
  }

  fail(error: Error): void {
    this.#finish(error);
  }

  async #run(): Promise<void> {
    let pause = 1;
    while (!this.#isStopping && !this.#isOver) {
      this.#isWoken = false;
      try {
        const done = this.#host.context.pool.tryTransaction((tx) => this.#batch(tx));
        if (done === null) {
          await Bun.sleep(pause * (0.5 + Math.random()));
          pause = Math.min(pause * 2, LONGEST_PAUSE);
          continue;
        }
        pause = 1;
        if (done.result) await new Promise((resolve) => setImmediate(resolve));
        else await this.#idle();
      } catch (error) {
        await this.#failed(error).catch(async (failure) => {
          this.#report(failure); // such as a full disk; the next try comes here again
          await Bun.sleep(PAUSE_AFTER_ERROR);
        });
      }
    }
    this.#finish();
  }

  /** False when there was nothing to handle. */
  #batch(tx: Tx): boolean {
    const { context, topic, schema, consumer, handler } = this.#host;
    const { connection } = context.pool.writer;
    const { page, seek } = connection.use(prepareStreamStatements);
    const stored = savedOffset(connection, topic, consumer);
    let position = stored ?? this.#begin;
    const through = trimmedThrough(connection, topic);
    if (through > position) {
      if (stored !== undefined || through > this.#present) throw trimmedError(topic, position, through);
      position = through;
    }
    const rows = page.all(topic, position, position < this.#suspect ? 1 : BATCH);
    let last = position;
    const end = performance.now() + BATCH_TIME;
    for (const row of rows) {
      try {
        const result: unknown = handler(toEvent<E>(topic, row, schema), tx);
        if (isThenable(result)) {
          result.then(undefined, () => {});
          throw new TypeError(
            "process: the handler returned a promise; it must be synchronous, as a transaction is",
          );
        }
      } catch (error) {
        throw new EventFailure(row, error);
      }
      last = row.offset;
      if (performance.now() >= end || this.#isStopping) break;
    }
    if (last > position || stored === undefined) {
      assertStored(CONSUMERS, seek.run(consumer, topic, last).changes > 0);
    }
    return rows.length > 0;
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#isOver) return;
    if (!(error instanceof EventFailure)) {
      this.#report(error);
      const isFinal = error instanceof FileReplacedError || error instanceof ClosedError;
      if (isFinal || (error as { readonly code?: unknown }).code === "HONKBUN_OFFSET_TRIMMED") {
        this.#finish(error as Error);
      } else await Bun.sleep(PAUSE_AFTER_ERROR);
      return;
    }
    const { row, cause } = error;
    if (this.#suspect !== row.offset) {
      this.#suspect = row.offset; // what came before it in the batch is handled again, by itself
      return;
    }
    const { onError, context } = this.#host;
    if (onError === "stop") {
      this.#report(cause);
      this.#finish(cause instanceof Error ? cause : new Error("the handler failed", { cause }));
      return;
    }
    const passed = context.pool.tryTransaction(() => this.#passOver(row, cause));
    if (passed === null)
      await Bun.sleep(1 + Math.random()); // and it fails once more
    else if (passed.result && (onError === "skip" || cause instanceof PayloadError)) this.#report(cause);
  }

  /** False when another process has passed it meanwhile. */
  #passOver(row: EventRow, error: unknown): boolean {
    const { context, topic, consumer, onError, bury } = this.#host;
    const { connection } = context.pool.writer;
    const { page, seek } = connection.use(prepareStreamStatements);
    const position = savedOffset(connection, topic, consumer) ?? this.#begin;
    if (page.get(topic, position, 1)?.offset !== row.offset) return false;
    if (onError === "dead") bury(row, error);
    assertStored(CONSUMERS, seek.run(consumer, topic, row.offset).changes > 0);
    return true;
  }

  #idle(): Promise<void> {
    if (this.#isWoken || this.#isStopping || this.#isOver) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wakeUp = resolve;
    this.#isIdle = true;
    return promise;
  }

  #report(error: unknown): void {
    this.#host.context.report(error, `process of ${this.topic} by ${this.#host.consumer}`);
  }

  #finish(error?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#offAbort();
    this.#host.context.feed.delete(this);
    this.#wakeUp?.();
    if (error === undefined) {
      this.#stopped.resolve();
      return;
    }
    this.#stopped.reject(error);
    for (const tell of this.#host.context.feed.failed) tell(this, error);
  }
}
