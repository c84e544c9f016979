import { z } from "zod";

import { show } from "../duration.ts";
import { assertName, readOptions, signal } from "../options.ts";
import { collectSwept } from "../queue/burial.ts";
import { insertJob } from "../queue/insertion.ts";
import { readQueueOptions } from "../queue/queue-options.ts";
import { Queue } from "../queue/queue.ts";
import type { Running } from "../running.ts";
import type { SignalOption } from "../signal.ts";
import type { Connection } from "../sqlite/connection.ts";
import { jobOf } from "./firing.ts";
import { honkerTiming, jobOfHonker, nextOf } from "./honker-tasks.ts";
import {
  type AddOptions,
  type QueueTarget,
  readSchedule,
  type ScheduleOptions,
  type TaskTarget,
  type When,
} from "./schedule-options.ts";
import type { SchedulerContext } from "./scheduler-context.ts";
import { SchedulerRun } from "./scheduler-run.ts";
import {
  type Definition,
  type HonkerTask,
  isSameDefinition,
  prepareScheduleStatements,
  saveSchedule,
  type ScheduleRow,
} from "./statements.ts";
import { type Timing, timingOf, type TimingTerms } from "./timing.ts";

/** A schedule as it stands. */
export interface ScheduleInfo {
  readonly name: string;
  /** Null when it is paused, or never fires again. */
  readonly nextFireAt: Date | null;
  readonly enabled: boolean;
}

const START = z.strictObject({ signal: signal.optional() });
/** As many boundaries as `next` gives at most. */
const MOST_NEXT = 10_000;

/** Jobs by the clock, for all processes together: who leads adds them, others stand by. */
export class Scheduler {
  readonly #context: SchedulerContext;

  /** @internal */
  constructor(context: SchedulerContext) {
    this.#context = context;
  }

  /**
   * Adds a schedule, or changes the one of this name. The same definition again changes nothing; another time for it begins from
   * now; what else has changed holds from the next run on. Joins the open `db.transaction`.
   * @throws TypeError, RangeError, PayloadError, saying what and where, before anything is written; BusyError
   * @example
   * db.scheduler.add("nightly", { cron: "0 2 * * *", timezone: "Europe/Berlin", task: report });
   */
  add<In>(name: string, options: When & ScheduleOptions & TaskTarget<In>): void;
  add<In>(name: string, options: When & ScheduleOptions & QueueTarget<In>): void;
  add(name: string, options: AddOptions<unknown>): void {
    const { pool, clock, queues } = this.#context;
    const schedule = readSchedule(
      name,
      options,
      (queue) => new Queue(queues, queue, readQueueOptions("scheduler.add", {})),
    );
    const now = clock();
    const stored = pool.read((connection) => connection.use(prepareScheduleStatements).get.get(name));
    // A deployment adds all schedules again: that must not even wait for the write lock.
    if (stored !== null && isSameDefinition(stored, complete(schedule, stored, now))) return;
    pool.writeAll(undefined, (connection) => {
      const { get, honkerTask } = connection.use(prepareScheduleStatements);
      if (honkerTask.get(name) !== null) {
        throw new TypeError(
          `scheduler.add: ${show(name)} is a schedule of honker's; give this one another name`,
        );
      }
      const before = get.get(name);
      const definition = complete(schedule, before, now);
      const isResumed = before?.enabled === 0 && definition.enabled === 1;
      const goesOn = before !== null && !isResumed && isSameTiming(before, definition);
      const next = goesOn ? before.next_fire_at : timingOf(definition).next(now);
      if (before === null && next === null) {
        throw new RangeError(
          `scheduler.add: ${name}: it would never fire: endAt comes before its first boundary`,
        );
      }
      saveSchedule(connection, name, definition, next);
    });
  }

  /** All schedules, honker's included. */
  list(): readonly ScheduleInfo[] {
    const { own, honkers } = this.#context.pool.read((connection) => {
      const { list, honkerTasks } = connection.use(prepareScheduleStatements);
      return { own: list.all(), honkers: honkerTasks.all() };
    });
    const info = (name: string, enabled: boolean, next: number | null): ScheduleInfo => ({
      name,
      nextFireAt: enabled && next !== null ? new Date(next) : null,
      enabled,
    });
    return [
      ...own.map((row) => info(row.name, row.enabled === 1, row.next_fire_at)),
      ...honkers.map((task) => info(task.name, task.enabled === 1, task.next_fire_at * 1_000)),
    ].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Lets a schedule rest, also over calls of `add`. Joins the open `db.transaction`. @throws RangeError when there is none */
  pause(name: string): void {
    this.#change(
      "pause",
      name,
      (connection, row) => {
        connection.use(prepareScheduleStatements).setEnabled.run(name, 0, row.next_fire_at);
      },
      (connection, task) => {
        connection.use(prepareScheduleStatements).setEnabledHonker.run(name, 0, task.next_fire_at);
      },
    );
  }

  /** Ends a pause: from the next boundary on; none that passed meanwhile is made up for. @throws RangeError when there is none */
  resume(name: string): void {
    const now = this.#context.clock();
    this.#change(
      "resume",
      name,
      (connection, row) => {
        if (row.enabled === 1) return;
        const next = timingOf(row).next(now);
        connection.use(prepareScheduleStatements).setEnabled.run(name, 1, next);
      },
      (connection, task) => {
        if (task.enabled === 1) return;
        const next = nextOf(honkerTiming(task), now);
        connection.use(prepareScheduleStatements).setEnabledHonker.run(name, 1, next);
      },
    );
  }

  /** Removes a schedule, if there is one. Its jobs stay. Joins the open `db.transaction`. */
  remove(name: string): void {
    assertName(name, "scheduler.remove: name");
    this.#context.pool.writeAll(undefined, (connection) => {
      const { remove, removeHonker } = connection.use(prepareScheduleStatements);
      if (remove.run(name).changes === 0) removeHonker.run(name);
    });
  }

  /**
   * Adds the job of a schedule now, beside those by the clock, also while it is paused. Returns the job's id. Joins the open
   * `db.transaction`.
   * @throws RangeError when there is no such schedule
   */
  trigger(name: string): number {
    const { pool, clock, queues } = this.#context;
    const now = clock();
    const { list, onSwept } = collectSwept();
    const insert = (connection: Connection, job: ReturnType<typeof jobOf>): number =>
      insertJob(connection, job, onSwept).id;
    const id = this.#change(
      "trigger",
      name,
      (connection, row) => insert(connection, jobOf({ ...row, jitter: 0 }, now, now)),
      (connection, task) => insert(connection, jobOfHonker(task, now)),
    );
    pool.onEnd({ committed: () => list.forEach(({ event, job }) => void queues.emit(event, job)) });
    return id;
  }

  /**
   * The next boundaries from now on, at most `count` (default 1): also those of a paused schedule, as if it were not.
   * @throws RangeError when there is no such schedule
   */
  next(name: string, count = 1): Date[] {
    if (!Number.isInteger(count) || count < 0 || count > MOST_NEXT) {
      throw new RangeError(
        `scheduler.next: count must be an integer from 0 to ${MOST_NEXT}, got ${show(count)}`,
      );
    }
    const { pool, clock } = this.#context;
    const timing = pool.read((connection): Timing =>
      this.#find("next", name, connection, timingOf, honkerTiming),
    );
    const dates: Date[] = [];
    let next = timing.next(clock());
    for (; next !== null && dates.length < count; next = timing.next(next)) dates.push(new Date(next));
    return dates;
  }

  /**
   * Fires schedules in this process while it leads, and stands by while another does; keeps the process alive until it is stopped.
   * `db.work` does so by itself.
   * @throws TypeError
   */
  start(options?: SignalOption): Running {
    return new SchedulerRun(this.#context, readOptions("scheduler.start", START, options).signal);
  }

  #change<T>(
    call: string,
    name: string,
    own: (connection: Connection, row: ScheduleRow) => T,
    honkers: (connection: Connection, task: HonkerTask) => T,
  ): T {
    return this.#context.pool.writeAll(undefined, (connection) =>
      this.#find(
        call,
        name,
        connection,
        (row) => own(connection, row),
        (task) => honkers(connection, task),
      ),
    );
  }

  #find<T>(
    call: string,
    name: string,
    connection: Connection,
    own: (row: ScheduleRow) => T,
    honkers: (task: HonkerTask) => T,
  ): T {
    assertName(name, `scheduler.${call}: name`);
    const { get, honkerTask } = connection.use(prepareScheduleStatements);
    const row = get.get(name);
    if (row !== null) return own(row);
    const task = honkerTask.get(name);
    if (task !== null) return honkers(task);
    throw new RangeError(`scheduler.${call}: there is no schedule ${show(name)}`);
  }
}

/** A definition as it is to be stored: what goes on as it did keeps its boundaries, and whether it is paused. */
function complete(
  { definition, enabled }: ReturnType<typeof readSchedule>,
  before: ScheduleRow | null,
  now: number,
): Definition {
  const goesOn = before !== null && isSameTiming(before, { ...definition, anchor: before.anchor });
  const anchor = definition.every === null ? null : (definition.start_at ?? (goesOn ? before.anchor : now));
  return { ...definition, anchor, enabled: enabled === undefined ? (before?.enabled ?? 1) : enabled ? 1 : 0 };
}

function isSameTiming(a: TimingTerms, b: TimingTerms): boolean {
  return (
    a.cron === b.cron &&
    a.timezone === b.timezone &&
    a.every === b.every &&
    a.anchor === b.anchor &&
    a.start_at === b.start_at &&
    a.end_at === b.end_at
  );
}
