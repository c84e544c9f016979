import type { OnSwept } from "../queue/burial.ts";
import type { Connection } from "../sqlite/connection.ts";
import { describe, fireDue, followClock } from "./firing.ts";
import { fireHonkerTasks } from "./honker-tasks.ts";
import { prepareScheduleStatements } from "./statements.ts";
import { Unreadable } from "./unreadable.ts";

/** When schedules fire next, in epoch milliseconds; Infinity if none does. */
export interface Upcoming {
  readonly first: number;
  readonly firstOfHonker: number;
  /** When any was fired last; 0 for never. */
  readonly tickedAt: number;
}

/** All schedules of the file, as far as they can be read here. */
export class Timetable {
  readonly #own: Unreadable;
  readonly #honkers: Unreadable;

  /** `report` is told of those that cannot be read. */
  constructor(report: (error: unknown, where: string) => void) {
    this.#own = new Unreadable((name, error) => report(error, `schedule ${name}`));
    this.#honkers = new Unreadable((name, error) => report(error, `honker's schedule ${name}`));
  }

  look(connection: Connection): Upcoming {
    const statements = connection.use(prepareScheduleStatements);
    this.#own.forgetMended((name) => {
      const row = statements.get.get(name);
      return row === null ? undefined : describe(row);
    });
    this.#honkers.forgetMended((name) => statements.honkerTask.get(name)?.cron_expr);
    return {
      first: statements.first.get(this.#own.names)?.at ?? Number.POSITIVE_INFINITY,
      firstOfHonker:
        (statements.firstHonker.get(this.#honkers.names)?.at ?? Number.POSITIVE_INFINITY) * 1_000,
      tickedAt: statements.lastTick.get()?.ticked_at ?? 0,
    };
  }

  /** See `fireDue`. */
  fire(connection: Connection, now: number, seenSince: number, onSwept: OnSwept): void {
    fireDue(connection, now, seenSince, { unreadable: this.#own, onSwept });
  }

  fireHonkers(connection: Connection, now: number, onSwept: OnSwept): void {
    fireHonkerTasks(connection, now, { unreadable: this.#honkers, onSwept });
  }

  /** See `followClock`. */
  followClock(connection: Connection, now: number, after: string): string | null {
    return followClock(connection, now, after, this.#own);
  }
}
