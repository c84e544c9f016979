import { type Duration, LONGEST_TIMER, toMilliseconds } from "../duration.ts";
import { ClosedError, FileReplacedError } from "../errors.ts";
import type { Lock } from "../locks/lock.ts";
import { assertKnown } from "../options.ts";
import { collectSwept, type Swept } from "../queue/burial.ts";
import type { Running } from "../running.ts";
import { onAbort } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Feed } from "../wake/hub.ts";
import { Leadership } from "./leadership.ts";
import { Presence } from "./presence.ts";
import type { SchedulerContext } from "./scheduler-context.ts";
import { Timetable } from "./timetable.ts";

/** Who fires honkbun's schedules, and who fires honker's: that name is honker's own. */
const LEADER = "honkbun-scheduler";
const HONKER_LEADER = "honker-scheduler";
/** After an error that is not expected, such as a full disk: tries again after so long. */
const PAUSE_AFTER_ERROR = 1_000;

const STOP = new Set(["timeout"]);

/**
 * Fires schedules while this process leads, and stands by while another does. Sleeps until the next boundary; a commit of any
 * process that may have changed it wakes it.
 */
export class SchedulerRun implements Running, Feed {
  readonly #context: SchedulerContext;
  readonly #leader: Leadership;
  readonly #honkerLeader: Leadership;
  readonly #presence: Presence;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #offAbort: () => void;
  readonly #timetable: Timetable;
  /** Up to which name schedules have followed a clock that was set back; null: all. */
  #clockFollowed: string | null = null;
  #firing: Promise<void> | undefined;
  /** The lock that we looked after last. */
  #led: Lock | undefined;
  #deadline = Number.POSITIVE_INFINITY;
  #isStopping = false;

  /** @throws FileReplacedError, ClosedError */
  constructor(context: SchedulerContext, signal: AbortSignal | undefined) {
    this.#context = context;
    const { locks, clock, hub } = context;
    const collect = (): void => hub.collectSoon();
    const failed = (error: unknown): void => this.#failed(error);
    this.#timetable = new Timetable(context.report);
    this.#leader = new Leadership(locks, LEADER, collect, failed);
    this.#honkerLeader = new Leadership(locks, HONKER_LEADER, collect, failed);
    this.#stopped.promise.catch(() => {}); // whoever waits for it is told; `error` tells the others
    this.#presence = new Presence(clock, () => {
      this.#clockFollowed = "";
      hub.collectSoon();
    });
    this.#offAbort = () => {};
    if (signal?.aborted) {
      this.#finish();
      return;
    }
    try {
      hub.add(this);
    } catch (error) {
      this.#presence.end();
      throw error;
    }
    context.runs.add(this);
    this.#offAbort = onAbort(signal, () => void this.stop());
    hub.collectSoon();
  }

  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  /** What fires now is one synchronous piece; a timeout bounds for how long leadership is tried to be handed on. */
  stop(options?: { readonly timeout?: Duration | undefined }): Promise<void> {
    assertKnown("stop", options, STOP);
    if (options?.timeout !== undefined) {
      const timeout = toMilliseconds(options.timeout, "stop: timeout");
      setTimeout(() => this.#finish(), Math.min(timeout, LONGEST_TIMER)).unref();
    }
    if (!this.#isStopping) {
      this.#isStopping = true;
      void this.#leave();
    }
    return this.stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Ends at once; the locks are freed with all others of the handle. */
  end(): void {
    this.#finish();
  }

  /** Whether it is at work. */
  get isBusy(): boolean {
    return this.#firing !== undefined;
  }

  /** What concerns it is written by users, and by ourselves. */
  get followsLoops(): boolean {
    return false;
  }

  collect(): boolean {
    if (this.#isStopping || this.#firing !== undefined) return false; // then we look again
    const { pool, clock, hub } = this.#context;
    const { first, firstOfHonker, tickedAt } = pool.readCommitted((connection) =>
      this.#timetable.look(connection),
    );
    this.#leader.want(Math.min(first, firstOfHonker) < Number.POSITIVE_INFINITY);
    const { lock } = this.#leader;
    this.#honkerLeader.want(lock !== undefined && firstOfHonker < Number.POSITIVE_INFINITY);
    this.#deadline = Number.POSITIVE_INFINITY;
    if (lock === undefined) return false;
    const now = clock();
    // The clock was set back while nobody looked.
    if (lock !== this.#led && tickedAt > now) this.#clockFollowed ??= "";
    this.#led = lock;
    const next = Math.min(
      first,
      this.#honkerLeader.lock === undefined ? Number.POSITIVE_INFINITY : firstOfHonker,
    );
    if (next <= now || this.#clockFollowed !== null) {
      this.#firing = this.#fire().finally(() => {
        this.#firing = undefined;
        if (!this.#isStopping) hub.collectSoon();
      });
    } else this.#deadline = next;
    return false;
  }

  deadline(): number {
    return this.#deadline;
  }

  fail(error: Error): void {
    this.#finish(error);
  }

  async #fire(): Promise<void> {
    const { pool, queues } = this.#context;
    try {
      const swept = await pool.loops.write((connection) => this.#fireOn(connection));
      for (const { event, job } of swept) queues.emit(event, job);
    } catch (error) {
      if (this.#isStopping) return;
      this.#failed(error);
      await Bun.sleep(PAUSE_AFTER_ERROR);
    }
  }

  /** Whoever does not lead any more, in this very transaction, fires nothing. */
  #fireOn(connection: Connection): readonly Swept[] {
    const { list: swept, onSwept } = collectSwept();
    if (!this.#leader.lock?.isHeldOn(connection)) return swept;
    const seenSince = this.#presence.look();
    const now = this.#context.clock();
    if (this.#clockFollowed !== null) {
      this.#clockFollowed = this.#timetable.followClock(connection, now, this.#clockFollowed);
    }
    this.#timetable.fire(connection, now, seenSince, onSwept);
    if (this.#honkerLeader.lock?.isHeldOn(connection)) {
      this.#timetable.fireHonkers(connection, now, onSwept);
    }
    return swept;
  }

  async #leave(): Promise<void> {
    await this.#firing;
    await Promise.all([this.#leader.giveUp(), this.#honkerLeader.giveUp()]);
    this.#finish();
  }

  #finish(error?: Error): void {
    this.#isStopping = true;
    this.#offAbort();
    this.#presence.end();
    this.#context.hub.remove(this);
    this.#context.runs.delete(this);
    void this.#leader.giveUp();
    void this.#honkerLeader.giveUp();
    if (error === undefined) this.#stopped.resolve();
    else this.#stopped.reject(error);
  }

  #failed(error: unknown): void {
    this.#context.report(error, "scheduler");
    if (error instanceof FileReplacedError || error instanceof ClosedError) this.#finish(error);
  }
}
