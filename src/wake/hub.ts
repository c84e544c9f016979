import type { Clock } from "../clock.ts";
import { LONGEST_TIMER } from "../duration.ts";
import type { Pool } from "../sqlite/pool.ts";
import { Bell } from "./bell.ts";
import { LookLadder } from "./look-ladder.ts";
import { Poller } from "./poller.ts";
import { WalWatcher } from "./wal-watcher.ts";

/** Timers are measured by another clock than instants: after a jump of the latter a deadline is late by at most this. */
const LONGEST_WAIT = 1_000;
/** Milliseconds before reading is tried again when it failed, doubled up to the other while it goes on failing. */
const RETRY = 5;
const LONGEST_RETRY = 1_000;
/** Milliseconds between two checks whether the file is still there: after events, and on safety looks. */
const FILE_CHECK = 10;
const IDLE_FILE_CHECK = 1_000;
/** So many commits of our own loops, each within a millisecond of the one before, are a busy time. */
const BUSY = 16;
const BUSY_FOR = 4;
/** Milliseconds after a commit of ours in which events are likely to be about that: not to be looked for without pause. */
const OWN_EVENTS = 2;
/** Milliseconds for which we count as one of several that write all the time, after we have found the write lock taken. */
const CONTENDED_FOR = 25;
/** Milliseconds between two looks meanwhile, and while there are commits without that. */
const CONTENDED_PAUSE = 4;
const BUSY_PAUSE = 1;

/** A module's part in a wake. One for all of its subscribers: what is new is read once and handed to those concerned. */
export interface Feed {
  /** Reads what was committed, or has come due, since the last call. True when there is more, to be asked for in a later turn. */
  collect(): boolean;
  /** Whether what our own loops write may concern it. */
  readonly followsLoops: boolean;
  /** Whether the process lives on for it. Default true. */
  readonly keepsAlive?: boolean;
  /** Whether its deadlines are for its own upkeep alone: nobody waits for them. Default false. */
  readonly isUpkeep?: boolean;
  /** When there will be something to collect without any commit, in epoch milliseconds; Infinity if never. */
  deadline(): number;
  /** Ends every subscriber: nothing will ever come. */
  fail(error: Error): void;
}

export interface WakeOptions {
  /** Milliseconds, or false for none. */
  readonly safetyInterval: number | false;
  readonly mode: "auto" | "watch" | "poll";
}

export interface WakeStats {
  /** "idle": nobody waits for anything. "memory": one process, nothing to watch. */
  readonly mode: "idle" | "memory" | "watch" | "poll";
  readonly events: number;
  readonly looks: number;
  readonly wakes: number;
  readonly rings: number;
  readonly ringFailure: string | null;
  readonly lastWakeAt: Date | null;
}

/**
 * Wakes whoever waits, on a commit of any process, on a commit of this one, and when a deadline comes. Only while
 * somebody waits is anything watched. Each source of a wake works without the others.
 */
export class WakeHub {
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #options: WakeOptions;
  readonly #report: (error: unknown, where: string) => void;
  readonly #feeds = new Set<Feed>();
  readonly #bell: Bell | null;
  readonly #watcher: WalWatcher | null;
  readonly #ladder = new LookLadder(() => this.#look());
  readonly #poller = new Poller(
    () => this.#poll(),
    () => this.#onQuiet(),
  );

  #version = -1;
  /** Loops have committed since all was collected: `#version` does not tell. */
  #loopsCommitted = false;
  /** Since then a look has been asked for that is about others as well. */
  #isLookWanted = false;
  #lastCommit = Number.NEGATIVE_INFINITY;
  #lastLoopCommit = Number.NEGATIVE_INFINITY;
  #loopCommits = 0;
  #fileCheckedAt = Number.NEGATIVE_INFINITY;
  #soon: NodeJS.Immediate | undefined;
  #more = false;
  #again: Timer | undefined;
  #retry = RETRY;
  /** The earliest of all feeds. */
  #deadline = Number.POSITIVE_INFINITY;
  #deadlineTimer: Timer | undefined;
  #safetyTimer: Timer | undefined;
  #keepAlive: Timer | undefined;

  #events = 0;
  #looks = 0;
  #wakes = 0;
  #lastWakeAt: Date | null = null;

  constructor(
    pool: Pool,
    clock: Clock,
    options: WakeOptions,
    report: (error: unknown, where: string) => void,
  ) {
    this.#pool = pool;
    this.#clock = clock;
    this.#options = options;
    this.#report = report;
    const { path } = pool;
    this.#bell = path === null ? null : new Bell(path);
    this.#watcher =
      path === null
        ? null
        : new WalWatcher(
            path,
            () => this.#onEvent(),
            () => this.#onWatchLost(),
          );
    pool.onCommit((byLoops) => {
      this.#lastCommit = performance.now();
      this.#bell?.ring();
      if (!byLoops) this.lookSoon();
      else this.#onLoopsCommit();
    });
  }

  get stats(): WakeStats {
    return {
      mode: this.#mode,
      events: this.#events,
      looks: this.#looks,
      wakes: this.#wakes,
      rings: this.#bell?.rings ?? 0,
      ringFailure: this.#bell?.failure ?? null,
      lastWakeAt: this.#lastWakeAt,
    };
  }

  /**
   * Every commit that becomes visible after the return of this call is collected; what was there before, the feed reads
   * after it.
   * @throws FileReplacedError, ClosedError
   */
  add(feed: Feed): void {
    const failure = this.#pool.checkFailure();
    if (failure !== null) throw failure;
    if (this.#feeds.size === 0) this.#start();
    this.#feeds.add(feed);
    this.#keepAliveIfWanted();
    this.deadlineChanged();
  }

  remove(feed: Feed): void {
    if (!this.#feeds.delete(feed)) return;
    if (this.#feeds.size === 0) this.#stop();
    else this.#keepAliveIfWanted();
  }

  /** A feed has another deadline than before. */
  deadlineChanged(): void {
    let deadline = Number.POSITIVE_INFINITY;
    for (const feed of this.#feeds) deadline = Math.min(deadline, feed.deadline());
    // A timer that is set anew again and again is late.
    if (deadline === this.#deadline && this.#deadlineTimer !== undefined) return;
    this.#deadline = deadline;
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = undefined;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const wait = Math.min(Math.max(Math.ceil(deadline - this.#clock()), 0), LONGEST_WAIT);
    this.#deadlineTimer = setTimeout(() => {
      this.#deadlineTimer = undefined;
      this.#collectAll();
    }, wait);
    this.#deadlineTimer.unref();
  }

  /** A feed has a further deadline, in epoch milliseconds. */
  deadlineAt(deadline: number): void {
    if (deadline < this.#deadline) this.deadlineChanged();
  }

  /** Looks before the event loop goes on: after a commit of this process, or when its clock was moved. */
  lookSoon(): void {
    this.#isLookWanted = true;
    this.#wakeSoon();
  }

  /** Has everything collected, before the event loop goes on, though nothing may have been committed. */
  collectSoon(): void {
    if (this.#feeds.size === 0) return;
    this.#more = true;
    this.lookSoon();
  }

  /** Whether all that was committed here has been collected. */
  get isSettled(): boolean {
    return this.#soon === undefined && !this.#more && !this.#loopsCommitted && !this.#pool.isUnsettled;
  }

  /** When somebody is to be woken next without any commit, by others than `except`, in epoch milliseconds; Infinity if never. */
  nextDeadline(except?: Feed): number {
    let deadline = Number.POSITIVE_INFINITY;
    for (const feed of this.#feeds) {
      if (feed !== except && feed.isUpkeep !== true) deadline = Math.min(deadline, feed.deadline());
    }
    return deadline;
  }

  /** The clock was moved by hand. */
  clockMoved(): void {
    this.#collectAll();
  }

  close(): void {
    this.#bell?.close();
    this.#stop();
    this.#feeds.clear();
  }

  get #mode(): WakeStats["mode"] {
    if (this.#feeds.size === 0) return "idle";
    if (this.#pool.path === null) return "memory";
    return this.#poller.isRunning ? "poll" : "watch";
  }

  #start(): void {
    const { safetyInterval, mode } = this.#options;
    const isWatchable = this.#pool.path !== null;
    if (isWatchable) this.#version = this.#pool.dataVersion(); // first, because it may throw
    if (safetyInterval !== false) {
      this.#safetyTimer = setInterval(() => this.#onSafety(), Math.min(safetyInterval, LONGEST_TIMER));
      this.#safetyTimer.unref();
    }
    if (isWatchable && mode !== "watch") this.#poller.start();
    if (isWatchable && mode !== "poll") this.#arm();
  }

  #keepAliveIfWanted(): void {
    let isWanted = false;
    for (const { keepsAlive } of this.#feeds) isWanted ||= keepsAlive ?? true;
    if (isWanted) this.#keepAlive ??= setInterval(() => {}, LONGEST_TIMER);
    else this.#letGo();
  }

  #letGo(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }

  #stop(): void {
    this.#letGo();
    clearInterval(this.#safetyTimer);
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = undefined;
    clearTimeout(this.#again);
    this.#again = undefined;
    clearImmediate(this.#soon);
    this.#soon = undefined;
    this.#poller.stop();
    this.#ladder.stop();
    this.#watcher?.disarm();
  }

  /**
   * Some systems don't report writes to a file that is held open, so a watch counts only after its first event. Our own
   * ring asks for one; until it comes we poll.
   */
  #arm(): void {
    if (this.#watcher?.arm()) this.#bell?.ring();
    else this.#onWatchLost();
  }

  #onWatchLost(): void {
    if (this.#options.mode === "auto") this.#poller.start();
    else this.#report(new Error(`cannot watch ${this.#pool.path}-wal, and wake.mode is "watch"`), "wake");
  }

  #onEvent(): void {
    this.#events++;
    this.#poller.stop();
    if (this.#isContended && this.#options.mode === "auto") this.#pollInstead();
    else this.#ladder.restart(performance.now() - this.#lastCommit >= OWN_EVENTS);
  }

  /** Looks, and says after how many milliseconds to look again; null when there is little to expect. */
  #poll(): number | null {
    const isNew = this.#look();
    if (this.#isContended) return CONTENDED_PAUSE;
    return isNew || performance.now() - this.#lastLoopCommit < BUSY_FOR ? BUSY_PAUSE : null;
  }

  get #isContended(): boolean {
    return performance.now() - this.#pool.loops.lastBusy < CONTENDED_FOR;
  }

  /** While each moment has its writes, to look once in a while costs less than to be told of each. */
  #pollInstead(): void {
    if (!this.#watcher?.isArmed) return;
    this.#watcher.disarm();
    this.#ladder.stop();
    this.#poller.start();
  }

  #onLoopsCommit(): void {
    if (this.#feeds.size === 0) return;
    this.#loopsCommitted = true;
    this.#wakeSoon();
    const now = performance.now();
    this.#loopCommits = now - this.#lastLoopCommit < 1 ? this.#loopCommits + 1 : 0;
    this.#lastLoopCommit = now;
    if (this.#loopCommits >= BUSY && this.#options.mode === "auto") this.#pollInstead();
  }

  #onQuiet(): void {
    if (this.#watcher?.isArmed === false && this.#options.mode === "auto") this.#arm();
  }

  #onSafety(): void {
    // A watch that could not be had may be had later.
    if (this.#watcher?.isArmed === false && this.#options.mode === "auto") this.#arm();
    // As little as can be: an idle process does this four times a second.
    if (this.#pool.path === null || this.#deadline <= this.#clock()) this.#collectAll();
    else this.#look(IDLE_FILE_CHECK);
  }

  #wakeSoon(): void {
    if (this.#feeds.size === 0) return;
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      if (this.#pool.path === null || this.#more) this.#collectAll();
      else if (!this.#isLookWanted || !this.#look()) this.#collectLoops();
    });
  }

  /** What our loops have written is no news to most. */
  #collectLoops(): void {
    if (this.#loopsCommitted) this.#collectAll(true);
  }

  /** Asks whether anything was committed since the last look, and if so has it collected. One look serves everybody. */
  #look(fileCheck = FILE_CHECK): boolean {
    this.#looks++;
    if (this.#hasFailed(fileCheck)) return false;
    let version: number;
    try {
      version = this.#pool.dataVersion();
    } catch (error) {
      this.#lookAgain(error);
      return false;
    }
    this.#isLookWanted = false;
    if (version === this.#version) return false;
    this.#version = version;
    this.#pool.othersCommitted();
    this.#wakes++;
    this.#lastWakeAt = new Date(this.#clock());
    this.#collectAll();
    return true;
  }

  #collectAll(onlyLoops = false): void {
    if (this.#hasFailed(FILE_CHECK)) return;
    if (this.#pool.isUnsettled) {
      this.#lookAgain();
      return;
    }
    this.#loopsCommitted = false;
    if (!onlyLoops) this.#more = false;
    let failed = false;
    for (const feed of this.#feeds) {
      if (onlyLoops && !feed.followsLoops) continue;
      try {
        if (feed.collect()) {
          this.#more = true;
          this.lookSoon();
        }
      } catch (error) {
        failed = true;
        this.#lookAgain(error);
      }
    }
    if (failed) return; // a deadline that has passed would make us try again at once
    if (!onlyLoops) this.#retry = RETRY; // or a busy loop would make us try, and tell, a hundred times a second
    this.deadlineChanged();
  }

  /** The wake must not be lost because reading failed, or is not possible yet. */
  #lookAgain(error?: unknown): void {
    if (this.#again !== undefined) return;
    if (error !== undefined) {
      this.#report(error, "wake");
      this.#retry = Math.min(this.#retry * 2, LONGEST_RETRY);
    }
    this.#again = setTimeout(() => {
      this.#again = undefined;
      this.#collectAll();
    }, this.#retry);
  }

  /**
   * Whoever waits on a file that was replaced or removed, or on a handle that was closed, is told. Asked on looks, not
   * only on events: of two events within a millisecond only the first may be reported.
   */
  #hasFailed(interval: number): boolean {
    const now = performance.now();
    if (now - this.#fileCheckedAt < interval) return false;
    this.#fileCheckedAt = now;
    const error = this.#pool.checkFailure();
    if (error === null) return false;
    const feeds = [...this.#feeds];
    this.close();
    this.#report(error, "wake");
    for (const feed of feeds) {
      try {
        feed.fail(error);
      } catch (failure) {
        this.#report(failure, "wake"); // the others are told all the same
      }
    }
    return true;
  }
}
