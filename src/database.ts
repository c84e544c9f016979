import { Database } from "bun:sqlite";

import { z } from "zod";

import { Capture } from "./capture/capture.ts";
import { check } from "./check/check.ts";
import type { CheckReport } from "./check/finding.ts";
import type { Clock } from "./clock.ts";
import { type Context, createContext } from "./context.ts";
import { type Duration, LONGEST_TIMER, show, toMilliseconds } from "./duration.ts";
import { ClosedError, LockLostError } from "./errors.ts";
import { Emitter, type Events, type Subscription } from "./events.ts";
import { retireWhenReloaded } from "./generations.ts";
import type { LockOptions } from "./locks/lock-options.ts";
import type { Lock } from "./locks/lock.ts";
import { Locks } from "./locks/locks.ts";
import { duration, readOptions, type Retention, retention } from "./options.ts";
import type { InferInput, InferOutput, Schema } from "./payload.ts";
import type { ListenOptions, Notification } from "./pubsub/listener.ts";
import { pruning } from "./pubsub/pruning.ts";
import { PubSub } from "./pubsub/pubsub.ts";
import type { Job } from "./queue/job.ts";
import { Outbox } from "./queue/outbox.ts";
import { type QueueContext, queueContext } from "./queue/queue-context.ts";
import { type QueueOptions, type QueueSchemas, readQueueOptions } from "./queue/queue-options.ts";
import { Queue } from "./queue/queue.ts";
import type { Worker, WorkOptions } from "./queue/work-options.ts";
import type { RateLimitOptions } from "./rate-limit/rate-limit-options.ts";
import { RateLimit, RateLimits } from "./rate-limit/rate-limit.ts";
import type { SchedulerContext } from "./scheduler/scheduler-context.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import type { Source } from "./source.ts";
import type { Connection } from "./sqlite/connection.ts";
import { Pool } from "./sqlite/pool.ts";
import { type StreamContext, streamContext } from "./stream/stream-context.ts";
import { readStreamOptions, type StreamOptions, type StreamSchemas } from "./stream/stream-options.ts";
import { Stream } from "./stream/stream.ts";
import type { TaskOptions, TaskSchemas } from "./task/task-options.ts";
import { Task, type TaskHandler } from "./task/task.ts";
import { Tasks } from "./task/tasks.ts";
import type { Tx, TxOption } from "./transaction-option.ts";
import type { WaitOptions } from "./wait-options.ts";
import { WakeHub, type WakeOptions, type WakeStats } from "./wake/hub.ts";

export interface OpenOptions {
  /**
   * `"normal"` (default): a commit survives the death of every process; a power cut may take the last ones.
   * `"full"`: every commit is synced to disk before the call returns.
   */
  readonly synchronous?: "normal" | "full" | undefined;
  /** How long a synchronous call waits for the write lock before it throws `BusyError`. Default `"5s"`. */
  readonly busyTimeout?: Duration | undefined;
  /** At most so many connections for reading, opened when needed. Default 4. */
  readonly readers?: number | undefined;
  /** Tells the time in epoch milliseconds. Default `Date.now`. */
  readonly clock?: Clock | undefined;
  readonly wake?:
    | {
        /** A slow look beside all wake-ups, in case one is missed; false turns it off. Default `"250ms"`. */
        readonly safetyInterval?: Duration | false | undefined;
        /** `"auto"` (default): watch the WAL, and poll where watching does not work. The others do only what they say. */
        readonly mode?: "auto" | "watch" | "poll" | undefined;
      }
    | undefined;
  /** How long notifications stay for listeners that are slow. Default `{ maxAge: "1h", maxCount: 100_000 }`. */
  readonly notifications?: Retention | undefined;
}

const OPEN_OPTIONS = z.strictObject({
  synchronous: z.enum(["normal", "full"]).optional(),
  busyTimeout: duration.optional(),
  readers: z.int().min(1).max(64).optional(),
  clock: z.custom<Clock>((value) => typeof value === "function", "must be a function").optional(),
  wake: z
    .strictObject({
      safetyInterval: z.union([z.literal(false), duration], "must be false or a duration").optional(),
      mode: z.enum(["auto", "watch", "poll"]).optional(),
    })
    .optional(),
  notifications: retention.optional(),
}) as z.ZodType<OpenOptions>;

const DATABASE_WORK_OPTIONS = z.looseObject({ scheduler: z.boolean().optional() }) as z.ZodType<
  WorkOptions & { readonly scheduler?: boolean | undefined }
>;

const SHUTDOWN_OPTIONS = z.strictObject({ timeout: duration.optional() });

/**
 * Opens a database file, creating it and honkbun's tables where they are missing, and puts it into WAL mode.
 * `file` may be a path, `":memory:"`, or a `bun:sqlite` handle, which is used as it is and never closed.
 * @throws TypeError for bad arguments; `HonkbunError` with a `code` of `HONKBUN_OPEN_…` for a file that cannot be used
 * @example
 * const db = open("app.db");
 */
export function open(file: string | Database, options?: OpenOptions): Honkbun {
  if (typeof file !== "string" && !(file instanceof Database)) {
    throw new TypeError(`open: file must be a path, ":memory:" or a bun:sqlite Database, got ${show(file)}`);
  }
  return new Honkbun(file, readOptions("open", OPEN_OPTIONS, options));
}

/** @internal What the modules of a handle share. */
export interface Internals {
  readonly queues: QueueContext;
  readonly streams: StreamContext;
  readonly schedules: SchedulerContext;
}

/** Everything honkbun does with one database file. Made by `open`. */
export class Honkbun implements Disposable, AsyncDisposable {
  /** Who holds which lock. */
  readonly locks: Locks;
  /** Changes of tables as events. */
  readonly capture: Capture;
  /** Jobs by the clock. */
  readonly scheduler: Scheduler;
  readonly #pool: Pool;
  readonly #hub: WakeHub;
  readonly #emitter = new Emitter();
  readonly #pubsub: PubSub;
  readonly #context: Context;
  readonly #rateLimits: RateLimits;
  readonly #schedules: SchedulerContext;
  readonly #queues: QueueContext;
  readonly #tasks: Tasks;
  readonly #streams: StreamContext;
  readonly #hasEnded: () => void;
  #isClosing = false;

  /** @internal `ownsHandle`: closing closes the handle that is given. */
  constructor(file: string | Database, options: OpenOptions, ownsHandle = false) {
    const clock = options.clock === undefined ? Date.now : wholeMilliseconds(options.clock);
    const { wake, notifications } = options;
    const safety = wake?.safetyInterval ?? "250ms";
    const keep = {
      maxAge: toMilliseconds(notifications?.maxAge ?? "1h", "open: notifications.maxAge"),
      maxCount: notifications?.maxCount ?? 100_000,
    };
    const hubOptions: WakeOptions = {
      safetyInterval:
        safety === false ? false : Math.max(toMilliseconds(safety, "open: wake.safetyInterval"), 1),
      mode: wake?.mode ?? "auto",
    };
    const report = (error: unknown, where: string): void => this.#emitter.emit("error", { error, where });
    const now = clock(); // may throw, before there is anything to close
    this.#pool = new Pool(file, {
      synchronous: options.synchronous ?? "normal",
      busyTimeout: toMilliseconds(options.busyTimeout ?? "5s", "open: busyTimeout"),
      readers: options.readers ?? 4,
      now,
      ownsHandle,
    });
    this.#pool.onLongWal((message) => report(new Error(message), "checkpoint"));
    this.#hub = new WakeHub(this.#pool, clock, hubOptions, report);
    this.#pubsub = new PubSub(
      this.#pool,
      this.#hub,
      clock,
      pruning(this.#pool, clock, keep, (error) => report(error, "pruning of notifications")),
      report,
    );
    this.#context = createContext(this.#pool, this.#hub, clock, report);
    this.#queues = queueContext(this.#context, this.#emitter);
    this.#tasks = new Tasks(this.#queues);
    this.#streams = streamContext(this.#context);
    this.locks = new Locks(this.#context);
    this.capture = new Capture(this.#pool);
    this.#rateLimits = new RateLimits(this.#context);
    this.#schedules = { ...this.#context, locks: this.locks, queues: this.#queues, runs: new Set() };
    this.scheduler = new Scheduler(this.#schedules);
    this.#hasEnded = retireWhenReloaded(this);
  }

  /** The handle that sends go through. Give it to the ORM, and rows and jobs commit together. */
  get sqlite(): Database {
    return this.#pool.writer.connection.handle;
  }

  /**
   * Runs `fn` in a transaction (BEGIN IMMEDIATE; nested calls are savepoints). Every send, settle and read of this handle
   * in it is on that transaction. It commits when `fn` returns, and rolls back when it throws.
   * @throws TypeError when `fn` returns a promise; BusyError; AmbiguousTransactionError
   */
  transaction<T>(fn: (tx: Tx) => T): T {
    return this.#pool.transaction(fn);
  }

  /**
   * A queue of jobs, typed by schemas (of the payload, and of the result) or by type arguments. Keeps no registry: the
   * options belong to the handle.
   * @throws TypeError, RangeError
   */
  queue<S extends Schema, R extends Schema = Schema>(
    name: string,
    options: QueueOptions & { readonly schema: S; readonly result?: R | undefined },
  ): Queue<InferInput<S>, InferOutput<S>, InferOutput<R>>;
  queue<P = unknown, R = unknown>(name: string, options?: QueueOptions): Queue<P, P, R>;
  queue(name: string, options?: QueueOptions & QueueSchemas): Queue<unknown, unknown> {
    const queue = new Queue(this.#queues, name, readQueueOptions("queue", options));
    this.#queues.seams.opened?.(queue, options !== undefined);
    return queue;
  }

  /**
   * A task: a typed contract to send by. With a handler, here or by `task.handle`, this process can run it by `db.work`.
   * Its schemas type it: `input` what it is enqueued with, `output` what its handler returns.
   * @throws TypeError, RangeError; TypeError for a second handler of the same name
   */
  task<I extends Schema = Schema<void, void>, O extends Schema = Schema>(
    name: string,
    options: TaskOptions & { readonly input?: I | undefined; readonly output: O },
    handler?: TaskHandler<InferOutput<I>, InferInput<O>>,
  ): Task<InferInput<I>, InferOutput<I>, InferOutput<O>>;
  task<I extends Schema = Schema<void, void>, R = unknown>(
    name: string,
    options: TaskOptions & { readonly input?: I | undefined },
    handler?: TaskHandler<InferOutput<I>, R>,
  ): Task<InferInput<I>, InferOutput<I>, R>;
  task(
    name: string,
    options: TaskOptions & TaskSchemas,
    handler?: TaskHandler<unknown, unknown>,
  ): Task<unknown, unknown, unknown> {
    const task = new Task<unknown, unknown, unknown>(this.#tasks, name, options);
    if (handler !== undefined) task.handle(handler);
    return task;
  }

  /**
   * Runs every task that has a handler in this process, so many at once, fair between their queues; also those that get one
   * later. Runs the scheduler beside it, unless `scheduler` is false. Keeps the process alive until it is stopped.
   * @throws TypeError when there is none; RangeError
   */
  work(options?: WorkOptions & { readonly scheduler?: boolean | undefined }): Worker {
    const { scheduler, ...terms } = readOptions("work", DATABASE_WORK_OPTIONS, options);
    const worker = this.#tasks.work(terms);
    if (scheduler !== false) {
      const running = this.scheduler.start();
      const stop = (): void => void running.stop();
      worker.stopped.then(stop, stop);
    }
    return worker;
  }

  /**
   * An outbox: what is enqueued commits with the application's rows, and `deliver` is called for it after the commit, by
   * whichever process works on it. It is the queue `_outbox:<name>`, with 5 attempts and backoff from 5 s by default.
   * @throws TypeError, RangeError
   */
  outbox<P>(name: string, deliver: (payload: P, job: Job<P>) => unknown, options?: QueueOptions): Outbox<P> {
    return new Outbox(this.#queues, name, deliver, options);
  }

  /**
   * A durable topic of events, typed by a schema or a type argument. Keeps no registry: the options belong to the handle.
   * @throws TypeError, RangeError
   */
  stream<S extends Schema>(
    topic: string,
    options: StreamOptions & { readonly schema: S },
  ): Stream<InferInput<S>, InferOutput<S>>;
  stream<E = unknown>(topic: string, options?: StreamOptions): Stream<E, E>;
  stream(topic: string, options?: StreamOptions & StreamSchemas): Stream<unknown> {
    return new Stream(this.#streams, this.#queues, topic, readStreamOptions(options));
  }

  /**
   * Sends a notification to all who listen on the channel, in every process, once it is committed. Returns its id.
   * @throws PayloadError, TypeError, BusyError, TransactionRequiredError, AmbiguousTransactionError
   */
  notify(channel: string, payload?: unknown, options?: TxOption): number {
    return this.#pubsub.notify(channel, payload, options);
  }

  /**
   * Listens on one or more channels: attached when the call returns, nothing from before, everything after, in the order
   * of commits. Keeps the process alive until it is ended by break, `signal`, disposal or `db.close()`.
   * @throws TypeError
   */
  listen<P = unknown>(channels: string | readonly string[], options?: ListenOptions): Source<Notification<P>>;
  listen<P = unknown>(
    channels: string | readonly string[],
    listener: (notification: Notification<P>) => void,
    options?: ListenOptions,
  ): Subscription;
  listen<P>(
    channels: string | readonly string[],
    callbackOrOptions?: ((notification: Notification<P>) => void) | ListenOptions,
    options?: ListenOptions,
  ): Source<Notification<P>> | Subscription {
    return this.#pubsub.listen<P>(channels, callbackOrOptions, options);
  }

  /**
   * Takes a lock, or returns null when somebody holds it or waits for it. Joins the open `db.transaction`. While it is held it is
   * renewed; a process that only holds locks may end, which frees them.
   * @throws TypeError, RangeError, BusyError, AmbiguousTransactionError
   */
  tryLock(name: string, options?: LockOptions): Lock | null {
    return this.locks.tryLock(name, options);
  }

  /**
   * Takes a lock as soon as it is free: first come, first served, in all processes. Commits by itself, never in an open
   * transaction. Keeps the process alive while it waits.
   * @throws WaitTimeoutError, ClosedError, the signal's reason, TypeError, RangeError; all as rejections
   */
  lock(name: string, options?: LockOptions & WaitOptions): Promise<Lock> {
    return this.locks.lock(name, options);
  }

  /**
   * Runs `fn` while the lock is held, and resolves with what it returns once the lock is free again.
   * @throws what `fn` throws; LockLostError when the lock was lost before `fn` had ended; as `lock`
   */
  withLock<T>(
    name: string,
    fn: (lock: Lock) => T | Promise<T>,
    options?: LockOptions & WaitOptions,
  ): Promise<T> {
    return this.locks.withLock(name, fn, options);
  }

  /**
   * A limit to how much of something is done in a time, in all processes together. Keeps no registry: the options belong to the
   * handle, what was counted to the name.
   * @throws TypeError, RangeError
   */
  rateLimit(name: string, options: RateLimitOptions): RateLimit {
    return new RateLimit(this.#rateLimits, name, options);
  }

  /** Calls `listener` on each event until disposed. */
  on<E extends keyof Events>(event: E, listener: (event: Events[E]) => void): Subscription {
    return this.#emitter.on(event, listener);
  }

  /** What the wake-up does, and how often. */
  stats(): { readonly wake: WakeStats } {
    return { wake: this.#hub.stats };
  }

  /**
   * Looks for what is wrong with the file, or may become so, and says what to do: damage, a schema that somebody has changed,
   * foreign triggers on honkbun's tables, a WAL that cannot shrink and who keeps it, jobs and claims that nobody sees to, clocks that
   * differ. Reads the whole file, and returns when it has: a second or more for some hundred megabytes, half a second more
   * while the WAL cannot be checkpointed. Changes nothing.
   * @throws ClosedError, FileReplacedError
   */
  check(): CheckReport {
    return check(this.#pool, this.#context.clock);
  }

  /**
   * Stops every worker and claim loop of this handle, lets the handlers and loop bodies finish that run, then closes.
   * After `timeout` (default: never) what still runs is aborted, and its jobs are given back without using an attempt.
   * Also `await using`. Idempotent.
   * @throws TypeError, RangeError
   */
  async shutdown(options?: { readonly timeout?: Duration | undefined }): Promise<void> {
    const { timeout } = readOptions("shutdown", SHUTDOWN_OPTIONS, options);
    if (this.#pool.isClosed) return;
    const deadline = Promise.withResolvers<void>();
    const timer =
      timeout === undefined
        ? undefined
        : setTimeout(
            () => deadline.resolve(),
            Math.min(toMilliseconds(timeout, "shutdown: timeout"), LONGEST_TIMER),
          );
    await Promise.all([
      this.#streams.feed.stopAll(deadline.promise),
      ...[...this.#schedules.runs].map((run) => Promise.race([run.stop(), deadline.promise])),
      ...this.#queues.loops.all.map((loop) => loop.drain(deadline.promise)),
    ]);
    clearTimeout(timer);
    this.close();
  }

  /**
   * Closes at once: ends every loop and listener, and gives back the jobs that claim loops hold, without using an attempt.
   * Waits for the write lock to do so, at most `busyTimeout`. Idempotent.
   */
  close(): void {
    if (this.#isClosing) return; // closed, or by a listener of what closing does
    if (this.#pool.writer.inTransaction)
      throw new ClosedError("close: db.transaction is running; close after it");
    this.#isClosing = true;
    this.#hasEnded();
    this.#pubsub.close();
    const { liveness, report } = this.#context;
    const { feed } = this.#streams;
    const { hasToLeave } = liveness;
    const last = (connection: Connection): void => {
      feed.saveAll(connection);
      this.locks.leave(connection);
      if (hasToLeave) liveness.leave(connection);
    };
    const reason = new ClosedError("this honkbun handle was closed");
    const isWanted = hasToLeave || feed.hasUnsaved || this.locks.hasToLeave;
    this.#queues.loops.close(this.#pool, reason, report, isWanted ? last : undefined);
    for (const run of this.#schedules.runs) run.end();
    this.locks.end(reason);
    this.#rateLimits.end(reason);
    feed.endAll();
    this.#queues.watches.endAll();
    this.#hub.close();
    this.#pool.close();
  }

  /**
   * @internal Stops all that runs: listeners at once, loops once their handlers have ended; then frees the locks. The handle stays
   * open: it may have been kept on purpose.
   */
  async retire(): Promise<void> {
    const never = new Promise<void>(() => {});
    this.#pubsub.close();
    await Promise.allSettled([
      this.#streams.feed.stopAll(never),
      ...this.#queues.loops.all.map((loop) => loop.drain(never)),
      ...[...this.#schedules.runs].map((run) => run.stop()),
    ]);
    this.locks.retire(new LockLostError("the program was loaded anew, and what it had before was stopped"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  /** @internal What `honkbun/testing` needs of it. */
  get internals(): Internals {
    return { queues: this.#queues, streams: this.#streams, schedules: this.#schedules };
  }
}

/** A user's clock, checked at every reading: what it says is stored. */
function wholeMilliseconds(clock: Clock): Clock {
  return () => {
    const now = Math.floor(clock());
    if (Number.isSafeInteger(now) && now >= 0) return now;
    throw new TypeError(`open: clock must return epoch milliseconds, got ${show(now)}`);
  };
}
