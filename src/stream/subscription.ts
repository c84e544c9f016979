import { PayloadError } from "../errors.ts";
import { callListener } from "../events.ts";
import type { Schema } from "../payload.ts";
import { PushSource, type Source } from "../source.ts";
import { type StreamEvent, toEvent } from "./event.ts";
import type { Follower, Unsaved } from "./feed.ts";
import { resolvePosition, savedOffset } from "./position.ts";
import { type EventRow, prepareStreamStatements } from "./statements.ts";
import type { StreamContext } from "./stream-context.ts";
import type { SubscribeOptions } from "./stream-options.ts";
import { trimmedError, trimmedThrough } from "./trimming.ts";

/** Rows that are read at once. */
const PAGE = 500;
/** How far a consumer is gets saved after so many events, or milliseconds. */
const SAVED_EVERY = 1_000;
const SAVED_WITHIN = 1_000;

/** The events of a topic, in order: those that are there, then those that come. */
export interface StreamSource<E> extends Source<StreamEvent<E>> {
  /**
   * Saves that the current event is handled, too, at once: a break or a throw does not bring it back. Joins the open
   * `db.transaction`.
   * @throws TypeError without a consumer; BusyError, AmbiguousTransactionError
   */
  save(): void;
}

/** Reads a topic page by page, as it is asked; an event counts as handled when the next one is asked for. */
export class Subscription<E> extends PushSource<StreamEvent<E>> implements StreamSource<E>, Follower {
  readonly topic: string;
  /** What the loop does with an event nobody knows. */
  readonly isBusy = false;
  readonly #context: StreamContext;
  readonly #schema: Schema | undefined;
  readonly #options: SubscribeOptions;
  #rows: readonly EventRow[] = [];
  #index = 0;
  /** Events up to this offset were read. */
  #position = 0;
  /** Until the first read, for who begins with whatever is left: up to this offset, what is trimmed meanwhile is no gap. */
  #present = 0;
  /** Handed out last, and not known to be handled. */
  #current: number | undefined;
  /** Events up to these offsets are handled, and saved. */
  #handled = 0;
  #saved = 0;
  #unsaved = 0;
  /** The last seek that we know of. */
  #seq = 0;
  /** To be called when the loop's body has finished with the current event, and is to end then. */
  #finished: (() => void) | undefined;
  #timer: Timer | undefined;
  #isSaving = false;
  #hasToSave = false;
  #saving: Promise<void> = Promise.resolve();

  /** @throws FileReplacedError, ClosedError */
  constructor(context: StreamContext, topic: string, schema: Schema | undefined, options: SubscribeOptions) {
    super();
    this.topic = topic;
    this.#context = context;
    this.#schema = schema;
    this.#options = options;
    const isAttached = options.signal?.aborted !== true;
    if (isAttached) context.feed.add(this); // before the reads: it is woken for what commits after them
    if (isAttached) this.#begin();
    this.attach(options.signal);
  }

  override next(): Promise<IteratorResult<StreamEvent<E>>> {
    this.#countHandled();
    this.#finished?.();
    const event = this.isEnded || this.wanted > 0 ? undefined : this.#take();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    // All that was read was handed out, and handled.
    const isCaughtUp = !this.isEnded && this.#current === undefined && this.#index >= this.#rows.length;
    if (isCaughtUp) this.#handled = Math.max(this.#handled, this.#position);
    const saving = this.#flush(); // it is idle
    const result = super.next();
    if (!this.isEnded) return result;
    result.catch(() => {}); // the caller hears of it once that is saved
    return saving.then(() => result);
  }

  override async return(): Promise<IteratorResult<StreamEvent<E>>> {
    const result = await super.return();
    this.#finished?.();
    await this.#saving;
    return result;
  }

  save(): void {
    const { consumer } = this.#options;
    if (consumer === undefined) throw new TypeError("save: this subscription has no consumer to save for");
    const { pool } = this.#context;
    const before = { current: this.#current, handled: this.#handled, saved: this.#saved };
    const offset = this.#current ?? this.#handled;
    pool.write(undefined, (connection) =>
      connection.use(prepareStreamStatements).save.run(consumer, this.topic, offset, this.#seq),
    );
    this.#current = undefined;
    this.#handled = offset;
    this.#saved = Math.max(this.#saved, offset);
    pool.onEnd({
      rolledBack: () => {
        this.#current ??= before.current;
        this.#handled = before.handled;
        this.#saved = before.saved;
      },
    });
  }

  /** Waits for the loop's body to finish with the event that it has in hand. */
  async stop(): Promise<void> {
    if (this.#current !== undefined && !this.isEnded) {
      await new Promise<void>((resolve) => {
        this.#finished = () => {
          this.#finished = undefined;
          this.end();
          resolve();
        };
      });
    }
    await this.return();
  }

  wake(): void {
    while (this.wanted > 0 && !this.isEnded) {
      const event = this.#take();
      if (event === undefined) return;
      this.push(event);
    }
  }

  sought(consumer: string, offset: number, seq: number): void {
    if (seq <= this.#seq) return; // it was known when this one began
    this.#seq = seq;
    if (consumer !== this.#options.consumer) return;
    this.#rows = [];
    this.#index = 0;
    this.#current = undefined;
    this.#position = offset;
    this.#present = 0;
    this.#handled = offset;
    this.#saved = offset;
    this.wake();
  }

  get unsaved(): Unsaved | undefined {
    const { consumer } = this.#options;
    if (consumer === undefined || this.#handled <= this.#saved) return undefined;
    return { consumer, topic: this.topic, offset: this.#handled, seq: this.#seq };
  }

  protected override demand(): void {
    this.wake();
  }

  protected override detached(): void {
    const { feed } = this.#context;
    feed.delete(this);
    this.#rows = [];
    this.#index = 0;
    void this.#flush().then(() => {
      if (this.unsaved === undefined) feed.forget(this); // else closing tries once more
    });
  }

  #begin(): void {
    const { consumer, from = "saved" } = this.#options;
    const { pool, feed } = this.#context;
    const { saved, position, present, seq } = pool.readCommitted((connection) => {
      const { lastSeek } = connection.use(prepareStreamStatements);
      const saved = consumer === undefined ? undefined : savedOffset(connection, this.topic, consumer);
      return {
        seq: lastSeek.get()?.seq ?? 0,
        saved,
        present:
          from === "start" || (from === "saved" && saved === undefined)
            ? resolvePosition(connection, this.topic, "end")
            : 0,
        position:
          from === "saved"
            ? (saved ?? resolvePosition(connection, this.topic, "start"))
            : resolvePosition(connection, this.topic, from),
      };
    });
    this.#seq = seq;
    this.#present = present;
    this.#position = position;
    this.#handled = position;
    // In memory offsets count that the open transaction has given, and may yet take back.
    pool.onEnd({
      rolledBack: () => {
        if (pool.isClosed) return;
        const last = pool.readCommitted(
          (connection) => connection.use(prepareStreamStatements).lastOffset.get()?.offset ?? 0,
        );
        feed.rewind(last);
        this.#position = Math.min(this.#position, last);
        this.#handled = Math.min(this.#handled, last);
      },
    });
    this.#saved = saved ?? -1; // registered by the first save, so that what it has yet to read is not trimmed
    void this.#flush();
  }

  /** The next event; undefined when there is none for now, or the end has come. */
  #take(): StreamEvent<E> | undefined {
    for (;;) {
      const row = this.#rows[this.#index];
      if (row === undefined) {
        if (!this.#readPage()) return undefined;
        continue;
      }
      this.#index++;
      try {
        const event = toEvent<E>(this.topic, row, this.#schema);
        this.#current = row.offset;
        return event;
      } catch (error) {
        if (!(error instanceof PayloadError)) throw error;
        this.#context.report(error, `subscription to ${this.topic}`); // nobody can read it as it is
        if (this.#current === undefined) this.#handled = row.offset;
      }
    }
  }

  #readPage(): boolean {
    const { pool, feed } = this.#context;
    const { key } = this.#options;
    if (this.isEnded || !feed.isSettled) return false;
    const { rows, trimmed, last } = pool.readCommitted((connection) => {
      const { page, pageOfKey, lastOffset } = connection.use(prepareStreamStatements);
      return {
        last: key === undefined ? 0 : (lastOffset.get()?.offset ?? 0), // before the page, which then has all up to it
        rows:
          key === undefined
            ? page.all(this.topic, this.#position, PAGE)
            : pageOfKey.all(this.topic, key, this.#position, PAGE),
        trimmed: trimmedThrough(connection, this.topic),
      };
    });
    if (trimmed > this.#position) {
      if (trimmed > this.#present) this.#passOver(trimmed);
      else this.#position = this.#handled = trimmed;
      return !this.isEnded;
    }
    this.#present = 0;
    this.#rows = rows;
    this.#index = 0;
    this.#position = rows.at(-1)?.offset ?? this.#position;
    // Of other keys nothing is to be handled.
    if (rows.length < PAGE) this.#position = Math.max(this.#position, last);
    return rows.length > 0;
  }

  #passOver(through: number): void {
    const { onTrimmed } = this.#options;
    if (onTrimmed === undefined) {
      this.fail(trimmedError(this.topic, this.#position, through));
      return;
    }
    this.#position = through;
    if (this.#current === undefined) this.#handled = Math.max(this.#handled, through);
    callListener(
      () => onTrimmed(through),
      (error) => this.#context.report(error, `onTrimmed of ${this.topic}`),
    );
  }

  #countHandled(): void {
    if (this.#current === undefined) return;
    this.#handled = this.#current;
    this.#current = undefined;
    if (this.#options.consumer === undefined) return;
    if (++this.#unsaved >= SAVED_EVERY) void this.#flush();
    else this.#timer ??= setTimeout(() => void this.#flush(), SAVED_WITHIN).unref();
  }

  /** Saves what is handled; resolves when that is committed, or failed. */
  #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unsaved = 0;
    this.#hasToSave = true;
    if (!this.#isSaving) this.#saving = this.#saveHandled();
    return this.#saving;
  }

  async #saveHandled(): Promise<void> {
    const { pool, report } = this.#context;
    this.#isSaving = true;
    try {
      while (this.#hasToSave) {
        this.#hasToSave = false;
        const { unsaved } = this;
        if (unsaved === undefined) break;
        const { consumer, topic, offset, seq } = unsaved;
        await pool.loops.write((connection) =>
          connection.use(prepareStreamStatements).save.run(consumer, topic, offset, seq),
        );
        if (seq === this.#seq) this.#saved = Math.max(this.#saved, offset);
      }
    } catch (error) {
      if (pool.isClosed) return;
      report(error, `offset of ${this.#options.consumer} in ${this.topic}`);
      this.#timer ??= setTimeout(() => void this.#flush(), SAVED_WITHIN).unref(); // and tries again
    } finally {
      this.#isSaving = false;
    }
  }
}
