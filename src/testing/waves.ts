import type { Job } from "../queue/job.ts";
import { TaskJob } from "../task/task-job.ts";

/** Jobs that begin further ones may do so this often while the clock stands still; then they never end. */
const MOST = 1_000;
/** Of so many of the last waves it is told whose they were. */
const TOLD = 10;

/**
 * Tells a loop without end from much to do. A wave is all that there was to run when it began; a job that came later, or is run
 * again, begins the next one.
 */
export class Waves {
  readonly #lastId: () => number;
  #at = 0;
  #count = 0;
  #through = 0;
  readonly #seen = new Set<number>();
  readonly #names = new Set<string>();

  /** `lastId`: which id was given to a job last. */
  constructor(lastId: () => number) {
    this.#lastId = lastId;
  }

  /** A job was run. Returns what there is to say when they go on without end. */
  add(job: Job<unknown>, now: number): string | undefined {
    if (now !== this.#at) this.#count = 0;
    this.#at = now;
    if (job.id > this.#through || this.#seen.has(job.id)) {
      this.#count++;
      this.#through = this.#lastId();
      this.#seen.clear();
    }
    this.#seen.add(job.id);
    if (this.#count <= MOST - TOLD) return undefined;
    this.#names.add(nameOf(job));
    if (this.#count <= MOST) return undefined;
    return (
      `${[...this.#names].sort().join(", ")}: an endless loop: after ${MOST} rounds at one moment of the clock ` +
      "there is still more to run, enqueued by handlers or due again at once"
    );
  }
}

function nameOf(job: Job<unknown>): string {
  const task = job instanceof TaskJob ? job.envelope?.task : undefined;
  return task === undefined ? `queue ${job.queue}` : `task ${task}`;
}
