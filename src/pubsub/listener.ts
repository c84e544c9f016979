import { LaggedError } from "../errors.ts";
import { callListener } from "../events.ts";
import type { SignalOption } from "../signal.ts";
import { onAbort } from "../signal.ts";
import { PushSource } from "../source.ts";
import type { Body, Head } from "./statements.ts";

/** What `listen` delivers. */
export interface Notification<P> {
  /** Ascending in the order of commits. */
  readonly id: number;
  readonly channel: string;
  readonly payload: P;
  /** When it was sent, to the second. */
  readonly at: Date;
}

export interface ListenOptions extends SignalOption {
  /**
   * Called with the number of notifications that were pruned before this listener could read them (at most that many,
   * where their channels are no longer known). Without it an iterator throws `LaggedError`, and a callback's lag is
   * reported as an `error` event.
   */
  readonly onLagged?: ((missed: number) => void) | undefined;
}

export type Row = Head & Body;

/** One attached listener, as the feed sees it. */
export interface Listener {
  readonly channels: readonly string[];
  /** Notifications up to this id were committed before it was attached. */
  after: number;
  deliver(row: Row): void;
  /** Rows were pruned before they were read. */
  lagged(missed: number): void;
  end(): void;
  fail(error: Error): void;
}

/** What a listener asks of the feed that it is attached to. */
export interface ListenerHost {
  toNotification(row: Row): Notification<never> | null;
  /** Rows of the channels between two ids, in order, at most so many; and how many of them were there at all. */
  readRange(channels: readonly string[], after: number, through: number, limit: number): Row[];
  countRange(channels: readonly string[], after: number, through: number): number;
  detach(listener: Listener): void;
  report(error: unknown, where: string): void;
}

/** Calls a function for each notification, in the turn in which it was read. */
export class CallbackListener<P> implements Listener, Disposable {
  readonly channels: readonly string[];
  after: number;
  readonly #host: ListenerHost;
  readonly #callback: (notification: Notification<P>) => void;
  readonly #onLagged: ((missed: number) => void) | undefined;
  #offAbort: () => void = () => {};
  #ended = false;

  constructor(
    host: ListenerHost,
    channels: readonly string[],
    after: number,
    callback: (notification: Notification<P>) => void,
    options: ListenOptions,
  ) {
    this.#host = host;
    this.channels = channels;
    this.after = after;
    this.#callback = callback;
    this.#onLagged = options.onLagged;
    this.#offAbort = onAbort(options.signal, () => this.end());
  }

  deliver(row: Row): void {
    if (this.#ended) return;
    const notification = this.#host.toNotification(row);
    if (notification !== null) this.#guard(() => this.#callback(notification));
  }

  lagged(missed: number): void {
    const { channels } = this;
    this.#guard(() => {
      if (this.#onLagged === undefined) throw laggedError(channels, missed);
      return this.#onLagged(missed);
    });
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#offAbort();
    this.#host.detach(this);
  }

  fail(): void {
    this.end(); // the hub has reported the error
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #guard(fn: () => unknown): void {
    callListener(fn, (error) => this.#host.report(error, `listener of ${this.channels.join(", ")}`));
  }
}

/** Rows held for an iterator that is not asking; beyond, they are read again from the table when it does. */
const BUFFER = 1_000;

/** Hands notifications to a `for await` loop, which may be slower than they come. */
export class NotificationSource<P> extends PushSource<Notification<P>> implements Listener {
  readonly channels: readonly string[];
  after: number;
  readonly #host: ListenerHost;
  readonly #onLagged: ((missed: number) => void) | undefined;
  /** What did not fit the buffer: `count` rows with ids in (after, through]. */
  #backlog = { after: 0, through: 0, count: 0 };

  constructor(host: ListenerHost, channels: readonly string[], after: number, options: ListenOptions) {
    super();
    this.#host = host;
    this.channels = channels;
    this.after = after;
    this.#onLagged = options.onLagged;
    this.attach(options.signal);
  }

  deliver(row: Row): void {
    if (this.isEnded) return;
    if (this.#backlog.count > 0 || this.buffered >= BUFFER) {
      if (this.#backlog.count === 0) this.#backlog.after = row.id - 1;
      this.#backlog.through = row.id;
      this.#backlog.count++;
      return;
    }
    const notification = this.#host.toNotification(row);
    if (notification !== null) this.push(notification);
  }

  lagged(missed: number): void {
    if (this.isEnded) return;
    if (this.#onLagged === undefined) {
      this.fail(laggedError(this.channels, missed));
      return;
    }
    const onLagged = this.#onLagged;
    callListener(
      () => onLagged(missed),
      (error) => this.#host.report(error, `onLagged of ${this.channels.join(", ")}`),
    );
  }

  protected override demand(): void {
    while (this.#backlog.count > 0 && this.wanted > 0 && !this.isEnded) {
      const { after, through, count } = this.#backlog;
      const left = this.#host.countRange(this.channels, after, through);
      this.#backlog.count = left;
      if (left < count) this.lagged(count - left);
      const rows = this.isEnded ? [] : this.#host.readRange(this.channels, after, through, BUFFER);
      for (const row of rows) {
        this.#backlog.after = row.id;
        this.#backlog.count--;
        const notification = this.#host.toNotification(row);
        if (notification !== null) this.push(notification);
      }
    }
  }

  protected override detached(): void {
    this.#host.detach(this);
  }
}

function laggedError(channels: readonly string[], missed: number): LaggedError {
  return new LaggedError(
    `listener of ${channels.join(", ")}: ${missed} notifications were pruned before it could read them; ` +
      "give onLagged to go on with what is left",
    missed,
  );
}
