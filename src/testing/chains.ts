import type { Job } from "../queue/job.ts";
import { TaskJob } from "../task/task-job.ts";

/** So many jobs may follow from one another while the clock stands still; then they never end. */
const LONGEST = 5_000;
/** Of so many of the last ones it is told whose they were. */
const TOLD = 10;

/**
 * Tells a loop without end from much to do: how long are the chains of jobs, each enqueued while the one before it ran, or run again at
 * once?
 */
export class Chains {
  readonly #lastId: () => number;
  /** Which id was given last when a job was begun; null for one beside which others run: nobody can tell whose jobs were enqueued. */
  readonly #begun = new Map<Job<unknown>, number | null>();
  /** How many jobs came before one that is to be run, by its id. */
  readonly #lengths = new Map<number, number>();
  #at = 0;
  readonly #names = new Set<string>();

  /** `lastId`: which id was given to a job last. */
  constructor(lastId: () => number) {
    this.#lastId = lastId;
  }

  begin(job: Job<unknown>): void {
    // Of one that was taken away no end is told.
    for (const other of this.#begun.keys()) if (!other.lease.mayBeHeld) this.#begun.delete(other);
    const isAlone = this.#begun.size === 0;
    if (!isAlone) for (const other of this.#begun.keys()) this.#begun.set(other, null);
    this.#begun.set(job, isAlone ? this.#lastId() : null);
  }

  /** A job was run. Returns what there is to say when they go on without end. */
  end(job: Job<unknown>, isDone: boolean, now: number): string | undefined {
    if (now !== this.#at) this.#lengths.clear();
    this.#at = now;
    const before = this.#begun.get(job);
    this.#begun.delete(job);
    const length = (this.#lengths.get(job.id) ?? 0) + 1;
    if (isDone) this.#lengths.delete(job.id);
    else this.#lengths.set(job.id, length);
    const last = this.#lastId();
    for (let id = (before ?? last) + 1; id <= last; id++) {
      this.#lengths.set(id, Math.max(this.#lengths.get(id) ?? 0, length));
    }
    if (length <= LONGEST - TOLD) return undefined;
    this.#names.add(nameOf(job));
    if (length <= LONGEST) return undefined;
    return (
      `${[...this.#names].sort().join(", ")}: an endless loop: at one moment of the clock ${LONGEST} jobs followed from ` +
      "one another, enqueued by handlers or due again at once, and there is still one more"
    );
  }
}

function nameOf(job: Job<unknown>): string {
  const task = job instanceof TaskJob ? job.envelope?.task : undefined;
  return task === undefined ? `queue ${job.queue}` : `task ${task}`;
}
