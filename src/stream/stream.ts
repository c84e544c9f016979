import { toUnixSeconds } from "../clock.ts";
import { show, toMilliseconds } from "../duration.ts";
import { AmbiguousTransactionError } from "../errors.ts";
import { assertKnown, assertName, readOptions, readPage, type Retention, retention } from "../options.ts";
import { type Schema, serialize } from "../payload.ts";
import type { QueueContext } from "../queue/queue-context.ts";
import type { Running } from "../running.ts";
import { assertStored } from "../sqlite/stored.ts";
import type { TxOption } from "../transaction-option.ts";
import { Upkeep } from "../upkeep.ts";
import { type StreamEvent, toStoredEvent } from "./event.ts";
import { StreamGroup } from "./group.ts";
import { assertPosition, type Position, resolvePosition } from "./position.ts";
import { type ProcessHandler, type ProcessOptions, Processor } from "./processor.ts";
import { insertEvent, insertEvents, type NewEvent } from "./publishing.ts";
import { prepareStreamStatements } from "./statements.ts";
import type { StreamContext } from "./stream-context.ts";
import {
  readProcessOptions,
  readSubscribeOptions,
  type StreamOptions,
  type StreamSchemas,
  type SubscribeOptions,
} from "./stream-options.ts";
import { type StreamSource, Subscription } from "./subscription.ts";
import { type Kept, TRIM_PORTION, trimPortion } from "./trimming.ts";

const PUBLISH = new Set(["tx", "key"]);
const PUBLISH_ASYNC = new Set(["key"]);
const READ = new Set(["after", "limit", "key"]);
const TX = new Set(["tx"]);
const TRIM = new Set(["pastConsumers"]);

/** How far a consumer is. */
export interface ConsumerInfo {
  readonly name: string;
  /** It has handled the events up to this one. */
  readonly offset: number;
  /** How many events it has yet to handle. */
  readonly lag: number;
}

/** A durable topic of events. Handles are cheap; the options belong to the handle, not to the topic. */
export class Stream<In, Out = In> {
  readonly topic: string;
  readonly #context: StreamContext;
  readonly #schema: Schema | undefined;
  readonly #queues: QueueContext;
  readonly #trimming: Upkeep | undefined;

  /** @internal */
  constructor(
    context: StreamContext,
    queues: QueueContext,
    topic: string,
    options: StreamOptions & StreamSchemas,
  ) {
    assertName(topic, "stream: topic");
    this.topic = topic;
    this.#context = context;
    this.#schema = options.schema;
    this.#queues = queues;
    if (options.retain === undefined) return;
    const kept = readKept(options.retain, "stream: retain");
    const { pool, clock, report } = context;
    this.#trimming = new Upkeep(
      pool,
      clock,
      (error) => report(error, `trimming of ${topic}`),
      async () => {
        const count = await pool.loops.write((connection) =>
          trimPortion(connection, topic, kept, clock(), false),
        );
        return count === TRIM_PORTION;
      },
    );
  }

  /**
   * Stores an event and returns its offset: on the open `db.transaction`, on `tx`, or committed by itself.
   * @throws PayloadError, TypeError, BusyError, TransactionRequiredError, AmbiguousTransactionError
   */
  publish(payload: In, options?: TxOption & { readonly key?: string | undefined }): number {
    assertKnown("publish", options, PUBLISH);
    const event = this.#newEvent("publish", payload, options?.key);
    const offset = this.#context.pool.write(options?.tx, (connection) => insertEvent(connection, event));
    this.#trimming?.noticed(1);
    return offset;
  }

  /**
   * Stores many events in one transaction: all or none. Returns their offsets in order. `key` is for all, or a function that
   * gives it for each.
   * @throws as `publish`, before anything is written
   */
  publishMany(
    payloads: Iterable<In>,
    options?: TxOption & { readonly key?: string | ((payload: In) => string) | undefined },
  ): number[] {
    assertKnown("publishMany", options, PUBLISH);
    if (typeof (payloads as Iterable<In> | null)?.[Symbol.iterator] !== "function") {
      throw new TypeError(`publishMany: payloads must be iterable, got ${show(payloads)}`);
    }
    const key = options?.key;
    const events = Array.from(payloads, (payload) =>
      this.#newEvent("publishMany", payload, typeof key === "function" ? key(payload) : key),
    );
    if (events.length === 0) return [];
    const offsets = this.#context.pool.writeAll(options?.tx, (connection) =>
      insertEvents(connection, events),
    );
    this.#trimming?.noticed(events.length);
    return offsets;
  }

  /**
   * Stores an event in a transaction that all calls of this tick share, without waiting for the write lock; resolves with its
   * offset once that is committed. Never joins a transaction.
   * @throws AmbiguousTransactionError inside `db.transaction`, which the event could not join. Rejects like `publish` throws.
   */
  publishAsync(payload: In, options?: { readonly key?: string | undefined }): Promise<number> {
    const { pool, publications } = this.#context;
    if (pool.writer.inTransaction) {
      throw new AmbiguousTransactionError(
        "publishAsync commits in a transaction of its own and cannot join db.transaction; call publish",
      );
    }
    return Promise.try(() => {
      assertKnown("publishAsync", options, PUBLISH_ASYNC);
      this.#trimming?.noticed(1);
      return publications.add(this.#newEvent("publishAsync", payload, options?.key));
    });
  }

  /** The latest event, or null. */
  last(): StreamEvent<Out> | null {
    const row = this.#context.pool.read((connection) =>
      connection.use(prepareStreamStatements).last.get(this.topic),
    );
    return row === null ? null : toStoredEvent(this.topic, row, this.#schema);
  }

  /** How many events there are. */
  length(): number {
    const { pool } = this.#context;
    return pool.read((connection) => connection.use(prepareStreamStatements).count.get(this.topic)?.n ?? 0);
  }

  /**
   * Events in the order of offsets: at most `limit` (default 100), those `after` an offset, those of a `key`.
   * @throws TypeError, RangeError
   */
  read(options?: {
    readonly after?: number | undefined;
    readonly limit?: number | undefined;
    readonly key?: string | undefined;
  }): StreamEvent<Out>[] {
    assertKnown("read", options, READ);
    const { key, ...page } = options ?? {};
    if (key !== undefined) assertKey(key, "read");
    const { after, limit } = readPage("read", page);
    const rows = this.#context.pool.read((connection) => {
      const { page: all, pageOfKey } = connection.use(prepareStreamStatements);
      return key === undefined
        ? all.all(this.topic, after, limit)
        : pageOfKey.all(this.topic, key, after, limit);
    });
    return rows.map((row) => toStoredEvent(this.topic, row, this.#schema));
  }

  /**
   * Yields the events that are there, then those that come, in order; attached when the call returns; keeps the process alive.
   * An event counts as handled when the next one is asked for: `break` and a throw bring the current one back, unless `save` was
   * called. With a `consumer` it is saved how far it is, now and then, when it is idle, and when it ends.
   * @throws TypeError, RangeError
   */
  subscribe(options?: SubscribeOptions): StreamSource<Out> {
    return new Subscription<Out>(this.#context, this.topic, this.#schema, readSubscribeOptions(options));
  }

  /**
   * Handles events one after the other, each exactly once as far as its effects are in this file: what the handler writes by `tx`,
   * or by this handle, commits together with how far the consumer is. Events share transactions; one whose handler throws has
   * none. Any number of processes may run one consumer. Keeps the process alive until it is stopped.
   * @throws TypeError, RangeError
   */
  process(consumer: string, handler: ProcessHandler<Out>, options?: ProcessOptions): Running {
    assertName(consumer, "process: consumer");
    if (typeof handler !== "function") {
      throw new TypeError(`process: handler must be a function, got ${show(handler)}`);
    }
    const { from = "start", onError = "stop", signal } = readProcessOptions(options);
    const group = this.group(consumer);
    return new Processor<Out>(
      {
        context: this.#context,
        topic: this.topic,
        schema: this.#schema,
        consumer,
        handler,
        from,
        onError,
        bury: (row, error) => group.bury(this.#context.pool.writer.connection, row, error),
      },
      signal,
    );
  }

  /** A group of members who share the events among them. */
  group(name: string): StreamGroup<Out> {
    return new StreamGroup<Out>(this.#queues, this.topic, name, this.#schema);
  }

  /**
   * Sends a consumer elsewhere: back, to read events again, or ahead. Those who follow it in whatever process go on from there.
   * Joins the open `db.transaction`, or `tx`.
   * @throws TypeError, RangeError, BusyError and the errors of sending
   */
  seek(consumer: string, to: Position, options?: TxOption): void {
    assertName(consumer, "seek: consumer");
    assertPosition(to, "seek: to");
    assertKnown("seek", options, TX);
    this.#context.pool.writeAll(options?.tx, (connection) => {
      const { seek, noteSeek } = connection.use(prepareStreamStatements);
      const offset = resolvePosition(connection, this.topic, to);
      assertStored("_honker_stream_consumers", seek.run(consumer, this.topic, offset).changes > 0);
      noteSeek.run(consumer, this.topic, offset);
    });
  }

  /** All consumers that have saved how far they are, honker's too. */
  consumers(): readonly ConsumerInfo[] {
    return this.#context.pool.read((connection) =>
      connection.use(prepareStreamStatements).consumers.all(this.topic),
    );
  }

  /**
   * Deletes the oldest events, as far as they are older than `maxAge` or more than `maxCount`, portion by portion. Returns how
   * many. What a consumer has yet to handle stays, unless `pastConsumers` is true: then that one is told by `OffsetTrimmedError`.
   * @throws TypeError, RangeError, BusyError
   */
  trim(retain: Retention, options?: { readonly pastConsumers?: boolean | undefined }): number {
    assertKnown("trim", options, TRIM);
    const kept = readKept(retain, "trim");
    const { pool, clock } = this.#context;
    const now = clock();
    let count = 0;
    for (let portion = TRIM_PORTION; portion === TRIM_PORTION; count += portion) {
      portion = pool.writeAll(undefined, (connection) =>
        trimPortion(connection, this.topic, kept, now, options?.pastConsumers === true),
      );
    }
    return count;
  }

  /** @internal */
  get context(): StreamContext {
    return this.#context;
  }

  #newEvent(call: string, payload: In, key: string | undefined): NewEvent {
    if (key !== undefined) assertKey(key, call);
    const text = serialize(payload, this.#schema, () => `${call} to ${this.topic}`);
    return [this.topic, key ?? null, text, toUnixSeconds(this.#context.clock())];
  }
}

function assertKey(key: unknown, call: string): asserts key is string {
  if (typeof key !== "string") throw new TypeError(`${call}: key must be a string, got ${show(key)}`);
  if (!key.isWellFormed()) throw new TypeError(`${call}: key must be well-formed Unicode, got ${show(key)}`);
}

function readKept(value: Retention, call: string): Kept {
  if (value === undefined) throw new TypeError(`${call}: retain must be an object, got undefined`);
  const { maxAge, maxCount } = readOptions(call, retention, value);
  return {
    maxAge: maxAge === undefined ? null : toMilliseconds(maxAge, `${call}: maxAge`),
    maxCount: maxCount ?? null,
  };
}
