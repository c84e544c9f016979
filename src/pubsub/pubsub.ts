import { z } from "zod";

import { type Clock, toUnixSeconds } from "../clock.ts";
import { show } from "../duration.ts";
import type { Subscription } from "../events.ts";
import { assertName, readOptions, signal } from "../options.ts";
import { deserialize, serialize } from "../payload.ts";
import type { Source } from "../source.ts";
import type { Pool } from "../sqlite/pool.ts";
import { insertedId } from "../sqlite/stored.ts";
import type { TxOption } from "../transaction-option.ts";
import type { Upkeep } from "../upkeep.ts";
import type { Feed, WakeHub } from "../wake/hub.ts";
import {
  CallbackListener,
  type Listener,
  type ListenerHost,
  type ListenOptions,
  type Notification,
  NotificationSource,
  type Row,
} from "./listener.ts";
import { type Head, preparePubSubStatements } from "./statements.ts";

/** Rows read per query, and per turn of the event loop. */
const PAGE = 1_000;

const LISTEN_OPTIONS = z.strictObject({
  signal: signal.optional(),
  onLagged: z
    .custom<(missed: number) => void>((value) => typeof value === "function", "must be a function")
    .optional(),
}) as z.ZodType<ListenOptions>;

/** Notifications: sent in a transaction, delivered after its commit to every listener of every process. */
export class PubSub implements Feed, ListenerHost {
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #clock: Clock;
  readonly #pruning: Upkeep;
  readonly report: (error: unknown, where: string) => void;
  readonly #listeners = new Map<string, Set<Listener>>();
  #count = 0;
  /** The last id handed out; common to all listeners, so that a look reads what is new once. */
  #cursor = 0;

  constructor(
    pool: Pool,
    hub: WakeHub,
    clock: Clock,
    pruning: Upkeep,
    report: (error: unknown, where: string) => void,
  ) {
    this.#pool = pool;
    this.#hub = hub;
    this.#clock = clock;
    this.#pruning = pruning;
    this.report = report;
  }

  notify(channel: string, payload?: unknown, options?: TxOption): number {
    assertName(channel, "notify: channel");
    for (const key in options) if (key !== "tx") throw new TypeError(`notify: unknown option ${key}`);
    const text = serialize(payload, undefined, () => "notify");
    const now = this.#clock();
    const id = this.#pool.write(options?.tx, (connection) => {
      const { insert } = connection.use(preparePubSubStatements);
      return insertedId(connection, "_honker_notifications", insert.run(channel, text, toUnixSeconds(now)));
    });
    this.#pruning.noticed(1);
    return id;
  }

  listen<P>(
    channels: string | readonly string[],
    callbackOrOptions?: ((notification: Notification<P>) => void) | ListenOptions,
    callbackOptions?: ListenOptions,
  ): Source<Notification<P>> | Subscription {
    const names = readChannels(channels);
    const callback = typeof callbackOrOptions === "function" ? callbackOrOptions : undefined;
    const options = readOptions(
      "listen",
      LISTEN_OPTIONS,
      typeof callbackOrOptions === "function" ? callbackOptions : callbackOrOptions,
    );
    const isFirst = this.#count === 0;
    if (isFirst) this.#hub.add(this); // before the read below: what commits after it is collected
    let after: number;
    try {
      after = this.#lastId();
    } catch (error) {
      if (isFirst) this.#hub.remove(this);
      throw error;
    }
    if (isFirst) this.#cursor = after;
    // In memory the count of ids includes what the open transaction has sent, and may yet take back.
    this.#pool.onEnd({
      rolledBack: () => {
        if (!this.#pool.isClosed) this.#rewind(this.#lastId());
      },
    });
    const listener =
      callback === undefined
        ? new NotificationSource<P>(this, names, after, options)
        : new CallbackListener<P>(this, names, after, callback, options);
    this.#attach(listener);
    if (options.signal?.aborted) this.detach(listener); // it ended before it was attached
    return listener;
  }

  get followsLoops(): boolean {
    return false;
  }

  collect(): boolean {
    let rows = this.#readHeads();
    if (rows.length === 0) {
      // Mostly another table's commit. If ids were given after all, their rows came since the query, or are gone already.
      const last = this.#lastId();
      if (last > this.#cursor) rows = this.#readHeads();
      if (rows.length === 0) {
        if (last > this.#cursor) this.#lagged(this.#cursor, last);
        else this.#rewind(last);
        this.#cursor = last;
        return false;
      }
    }
    this.#pruning.noticed(rows.length);
    for (const head of rows) {
      if (head.id <= this.#cursor) continue; // a listener made us collect meanwhile
      // Ids have no gaps but by deletion: a rollback takes its ids back.
      if (head.id > this.#cursor + 1) this.#lagged(this.#cursor, head.id - 1);
      const cursor = this.#cursor;
      this.#cursor = head.id; // first: what a listener does may make us collect again
      const listeners = this.#listeners.get(head.channel);
      if (listeners === undefined) continue;
      const body = this.#pool.readCommitted((connection) =>
        connection.use(preparePubSubStatements).body.get(head.id),
      );
      if (body === null) {
        this.#lagged(cursor, head.id); // pruned since the query above
        continue;
      }
      const row = { ...head, ...body };
      for (const listener of [...listeners]) if (head.id > listener.after) listener.deliver(row);
    }
    return rows.length === PAGE;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  fail(error: Error): void {
    for (const listener of this.#all()) listener.fail(error);
  }

  /** Ends all listeners. */
  close(): void {
    for (const listener of this.#all()) listener.end();
  }

  toNotification(row: Row): Notification<never> | null {
    try {
      const payload = deserialize(row.payload, undefined, () => `notification ${row.id} of ${row.channel}`);
      return {
        id: row.id,
        channel: row.channel,
        payload: payload as never,
        at: new Date(row.created_at * 1_000),
      };
    } catch (error) {
      this.report(error, "listen");
      return null;
    }
  }

  readRange(channels: readonly string[], after: number, through: number, limit: number): Row[] {
    const rows = this.#pool.readCommitted((connection) => {
      const { range } = connection.use(preparePubSubStatements);
      return channels.flatMap((channel) => range.all(channel, after, through, limit));
    });
    return rows.sort((a, b) => a.id - b.id).slice(0, limit);
  }

  countRange(channels: readonly string[], after: number, through: number): number {
    return this.#pool.readCommitted((connection) => {
      const { count } = connection.use(preparePubSubStatements);
      return channels.reduce((sum, channel) => sum + (count.get(channel, after, through)?.n ?? 0), 0);
    });
  }

  detach(listener: Listener): void {
    let attached = false;
    for (const channel of listener.channels) {
      const set = this.#listeners.get(channel);
      if (!set?.delete(listener)) continue;
      attached = true;
      if (set.size === 0) this.#listeners.delete(channel);
    }
    if (attached && --this.#count === 0) this.#hub.remove(this);
  }

  #attach(listener: Listener): void {
    this.#count++;
    for (const channel of listener.channels) {
      const set = this.#listeners.get(channel);
      if (set === undefined) this.#listeners.set(channel, new Set([listener]));
      else set.add(listener);
    }
  }

  #all(): Set<Listener> {
    return new Set([...this.#listeners.values()].flatMap((set) => [...set]));
  }

  #readHeads(): Head[] {
    return this.#pool.readCommitted((connection) =>
      connection.use(preparePubSubStatements).heads.all(this.#cursor, PAGE),
    );
  }

  /** Rows with ids in (after, through] are gone, and with them the names of their channels: it may concern anybody. */
  #lagged(after: number, through: number): void {
    for (const listener of this.#all()) {
      const missed = through - Math.max(after, listener.after);
      if (missed > 0) listener.lagged(missed);
    }
  }

  /** Ids after this one will be given again: of a rollback in memory, or of a table emptied with its count of ids. */
  #rewind(last: number): void {
    if (last >= this.#cursor) return;
    this.#cursor = last;
    for (const listener of this.#all()) listener.after = Math.min(listener.after, last);
  }

  #lastId(): number {
    return this.#pool.readCommitted(
      (connection) => connection.use(preparePubSubStatements).last.get()?.id ?? 0,
    );
  }
}

function readChannels(channels: string | readonly string[]): readonly string[] {
  const names = typeof channels === "string" ? [channels] : channels;
  if (!Array.isArray(names) || names.length === 0) {
    throw new TypeError(`listen: channels must be a name or an array of names, got ${show(channels)}`);
  }
  for (const name of names) assertName(name, "listen: channel");
  return [...new Set(names)];
}
