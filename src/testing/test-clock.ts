import type { Internals } from "../database.ts";
import { type Duration, show, toEpoch, toMilliseconds } from "../duration.ts";
import { collectSwept } from "../queue/burial.ts";
import { HandlerThread } from "../queue/isolated/handler-thread.ts";
import { Run } from "../queue/run.ts";
import { Timetable } from "../scheduler/timetable.ts";
import type { Connection } from "../sqlite/connection.ts";
import { prepareRecordingStatements } from "./recording.ts";

/**
 * A clock that stands still until it is moved. Moving it is one synchronous step, in which schedules fire at their boundaries, in
 * order, whether or not a scheduler runs; the process has no turn meanwhile. So what workers and claim loops hold is renewed, while
 * a lock, or a job of `claimBatch`, that should have been has expired. Whoever waits for the time is woken.
 */
export interface TestClock {
  /** Epoch milliseconds. */
  readonly now: number;
  /** @throws TypeError, RangeError */
  advance(by: Duration): void;
  /** Also back. @throws TypeError, RangeError */
  set(to: Date): void;
}

/** Some seconds of work. */
const MOST_BOUNDARIES = 100_000;

/** Until a job that was recorded under a number, the clock showed this. */
interface Moment {
  through: number;
  readonly now: number;
}

/** Goes from one thing that comes due to the next. */
export class SteppedClock implements TestClock {
  #now: number;
  #parts: Internals | undefined;
  #timetable: Timetable | undefined;
  readonly #moments: Moment[] = [];

  constructor(start: number) {
    this.#now = start;
  }

  /** From now on it moves what goes by it. */
  attach(parts: Internals): void {
    this.#parts = parts;
    this.#timetable = new Timetable(parts.queues.report);
  }

  get now(): number {
    return this.#now;
  }

  advance(by: Duration): void {
    this.moveTo(this.#now + toMilliseconds(by, "clock.advance"));
  }

  set(to: Date): void {
    this.moveTo(toEpoch(to, "clock.set"));
  }

  /** Goes on to a time, unless it is there already, as when the process has its turns: what it holds is renewed meanwhile. */
  pass(to: number): void {
    if (to > this.#now) this.moveTo(to, true);
  }

  moveTo(to: number, isAlive = false): void {
    if (this.#parts === undefined || this.#parts.queues.pool.isClosed) {
      this.#now = to;
      return;
    }
    const { queues } = this.#parts;
    if (to < this.#now) this.#setBack(to);
    else {
      for (let boundaries = 0; ;) {
        const boundary = this.#nextBoundary();
        const next = Math.min(boundary, queues.alarms.deadline());
        if (next > to) break;
        this.#show(Math.max(next, this.#now));
        queues.alarms.collect();
        if (boundary > next) continue;
        if (++boundaries > MOST_BOUNDARIES) {
          throw new RangeError(
            `clock: more than ${MOST_BOUNDARIES} boundaries of schedules lie before ${show(new Date(to))}, and it stops ` +
              `at ${show(new Date(this.#now))}: move it before the schedules are added`,
          );
        }
        this.#fire();
      }
      this.#show(to);
      queues.loops.keeper.clockMoved();
      if (isAlive) this.#parts.schedules.locks.clockMoved();
    }
    queues.hub.clockMoved();
  }

  /** When something comes due next, in epoch milliseconds; Infinity if nothing does. */
  nextDeadline(): number {
    const hub = this.#parts?.queues.hub.nextDeadline() ?? Number.POSITIVE_INFINITY;
    return Math.min(this.#nextBoundary(), hub);
  }

  /** The same but for timeouts of what runs. */
  nextDeadlineOfWaits(): number {
    if (this.#parts === undefined) return Number.POSITIVE_INFINITY;
    const { hub, alarms } = this.#parts.queues;
    const isWait = (owner: object): boolean => !(owner instanceof Run || owner instanceof HandlerThread);
    return Math.min(this.#nextBoundary(), hub.nextDeadline(alarms), alarms.deadlineOf(isWait));
  }

  /** What it showed when a job was recorded under this number. */
  timeOf(seq: number): number {
    return this.#moments.find(({ through }) => seq <= through)?.now ?? this.#now;
  }

  #nextBoundary(): number {
    const upcoming = this.#parts?.queues.pool.read((connection) => this.#timetable?.look(connection));
    return Math.min(
      upcoming?.first ?? Number.POSITIVE_INFINITY,
      upcoming?.firstOfHonker ?? Number.POSITIVE_INFINITY,
    );
  }

  #show(to: number): void {
    const through = this.#lastRecorded();
    if (through > (this.#moments.at(-1)?.through ?? 0)) {
      const moment = { through, now: this.#now };
      this.#moments.push(moment);
      this.#parts?.queues.pool.onEnd({
        rolledBack: () => {
          moment.through = this.#lastRecorded(); // further numbers are given again
        },
      });
    }
    this.#now = to;
  }

  #lastRecorded(): number {
    return this.#parts?.queues.pool.read(lastRecorded) ?? 0;
  }

  #fire(): void {
    const { list: swept, onSwept } = collectSwept();
    const { pool, emit } = (this.#parts as Internals).queues;
    pool.writeAll(undefined, (connection) => {
      this.#timetable?.fire(connection, this.#now, Number.NEGATIVE_INFINITY, onSwept);
      this.#timetable?.fireHonkers(connection, this.#now, onSwept);
    });
    pool.onEnd({ committed: () => swept.forEach(({ event, job }) => void emit(event, job)) });
  }

  #setBack(to: number): void {
    this.#show(to);
    if (this.#nextBoundary() === Number.POSITIVE_INFINITY) return;
    this.#parts?.queues.pool.writeAll(undefined, (connection) => {
      let after: string | null | undefined = "";
      while (typeof after === "string") after = this.#timetable?.followClock(connection, to, after);
    });
  }
}

function lastRecorded(connection: Connection): number {
  return connection.use(prepareRecordingStatements).lastJob.get()?.seq ?? 0;
}
