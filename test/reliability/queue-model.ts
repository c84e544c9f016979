// What a queue does, in memory: the rules that the README gives, and nothing of how the file keeps them.

/** Milliseconds for which a claim holds that is not renewed. */
export const VISIBILITY = 10_000;

export interface EnqueueTerms {
  readonly payload: number;
  readonly delay: number;
  readonly priority: number;
  readonly maxAttempts: number;
  /** Seconds. */
  readonly expiresIn: number | null;
  readonly key: string | null;
  readonly after: readonly number[];
  readonly buries: boolean;
}

export type State = "pending" | "processing" | "waiting";

export interface ModelJob {
  readonly id: number;
  payload: number;
  state: State;
  priority: number;
  /** Epoch milliseconds. */
  due: number;
  /** What we have written last: it stands for the second that honker has. */
  dueMs: number | null;
  attempts: number;
  readonly maxAttempts: number;
  /** Epoch seconds. */
  readonly expiresAt: number | null;
  claimExpiresAt: number | null;
  /** Which claim holds it, or held it last. */
  holder: string | null;
  readonly key: string | null;
  readonly parents: Map<number, { readonly buries: boolean; outcome: "open" | "ended" | "failed" }>;
}

/** One queue, and what several handles and honker do to it. */
export class QueueModel {
  now: number;
  isPaused = false;
  live: Map<number, ModelJob> = new Map();
  dead: Map<number, ModelJob> = new Map();
  cancelled: Set<number> = new Set();
  lastId: number;
  /** The second in which a handle found nothing more to free. */
  readonly #sweptAt = new Map<number, number>();

  constructor(now: number, lastId: number) {
    this.now = now;
    this.lastId = lastId;
  }

  get seconds(): number {
    return Math.floor(this.now / 1_000);
  }

  /** All but what handles have noticed. */
  snapshot(): () => void {
    const { isPaused, lastId } = this;
    const [live, dead, cancelled] = structuredClone([this.live, this.dead, this.cancelled] as const);
    return () => Object.assign(this, { isPaused, lastId, live, dead, cancelled });
  }

  /** Null when one of the parents was never there. */
  enqueue({
    payload,
    delay,
    priority,
    maxAttempts,
    expiresIn,
    key,
    after,
    buries,
  }: EnqueueTerms): number | null {
    if (after.some((id) => id > this.lastId)) return null;
    const holder = key === null ? undefined : [...this.live.values()].find((job) => job.key === key);
    if (holder !== undefined) return holder.id;
    const parents: ModelJob["parents"] = new Map();
    for (const id of after) {
      if (this.live.has(id)) parents.set(id, { buries, outcome: "open" });
      else if (buries && (this.dead.has(id) || this.cancelled.has(id)))
        parents.set(id, { buries, outcome: "failed" });
    }
    const id = ++this.lastId;
    this.live.set(id, {
      id,
      payload,
      state: parents.size > 0 ? "waiting" : "pending",
      priority,
      due: this.now + delay,
      dueMs: this.now + delay,
      attempts: 0,
      maxAttempts,
      expiresAt: expiresIn === null ? null : Math.ceil((this.now + expiresIn * 1_000) / 1_000),
      claimExpiresAt: null,
      holder: null,
      key,
      parents,
    });
    if ([...parents.values()].some(({ outcome }) => outcome === "failed")) this.#buryDependents();
    return id;
  }

  /** Claims by a handle; returns the ids in their order. */
  claim(handle: number, count: number, holder: string): number[] {
    const found: number[] = [];
    const isSwept = this.#sweptAt.get(handle) === this.seconds;
    if (!isSwept) this.#sweep();
    found.push(...this.#take(count, holder));
    if (found.length < count && isSwept) {
      this.#sweep();
      found.push(...this.#take(count - found.length, holder));
    }
    if (!isSwept || found.length < count) this.#sweptAt.set(handle, this.seconds);
    return found;
  }

  #take(count: number, holder: string): number[] {
    if (this.isPaused) return [];
    const due = [...this.live.values()]
      .filter((job) => job.state === "pending" && job.attempts < job.maxAttempts && job.due <= this.now)
      .sort((a, b) => b.priority - a.priority || a.due - b.due || a.id - b.id);
    // What has expired is not passed over, but ends the search: it is freed, and then it is looked again.
    const taken: ModelJob[] = [];
    for (const [, level] of Map.groupBy(due, ({ priority }) => priority)) {
      const left = count - taken.length;
      const fresh = level.slice(0, left).filter((job) => !this.#isLate(job));
      taken.push(...fresh);
      if (fresh.length < left && [...this.live.values()].some((job) => this.#isLate(job))) break;
    }
    for (const job of taken) {
      job.state = "processing";
      job.attempts++;
      job.holder = holder;
      job.claimExpiresAt = Math.ceil((this.now + VISIBILITY) / 1_000);
    }
    return taken.map(({ id }) => id);
  }

  /** Whether the claim still held the job; so for all that follow. */
  ack(id: number, holder: string): boolean {
    if (!this.#holds(id, holder)) return false;
    this.live.delete(id);
    this.#ended(id);
    return true;
  }

  retry(id: number, holder: string, delay: number): boolean {
    const job = this.#holds(id, holder);
    if (!job) return false;
    if (job.attempts >= job.maxAttempts) return this.fail(id, holder);
    Object.assign(job, { state: "pending", holder: null, claimExpiresAt: null });
    job.due = job.dueMs = this.now + delay;
    return true;
  }

  fail(id: number, holder: string): boolean {
    const job = this.#holds(id, holder);
    if (!job) return false;
    this.#bury(job);
    this.#buryDependents();
    return true;
  }

  snooze(id: number, holder: string, delay: number): boolean {
    const job = this.#holds(id, holder);
    if (!job) return false;
    Object.assign(job, { state: "pending", holder: null, claimExpiresAt: null, attempts: job.attempts - 1 });
    if (delay > 0) job.due = job.dueMs = this.now + delay;
    return true;
  }

  heartbeat(id: number, holder: string): boolean {
    const job = this.#holds(id, holder);
    if (!job) return false;
    const until = Math.ceil((this.now + VISIBILITY) / 1_000);
    job.state = "processing";
    job.claimExpiresAt = Math.max(job.claimExpiresAt ?? until, until);
    return true;
  }

  cancel(id: number): boolean {
    const job = this.live.get(id);
    if (job === undefined) return false;
    this.live.delete(id);
    this.cancelled.add(id);
    this.#failed(id);
    this.#ended(id);
    this.#buryDependents();
    return true;
  }

  update(id: number, payload: number, priority: number): boolean {
    const job = this.live.get(id);
    if (job === undefined || job.state === "processing") return false;
    Object.assign(job, { payload, priority, holder: null });
    return true;
  }

  reviveDead(id: number): number {
    const job = this.dead.get(id);
    if (job === undefined || [...this.live.values()].some(({ key }) => key !== null && key === job.key))
      return 0;
    this.dead.delete(id);
    this.live.set(id, {
      ...job,
      state: "pending",
      due: this.now,
      dueMs: this.now,
      attempts: 0,
      expiresAt: null,
      claimExpiresAt: null,
      holder: null,
      parents: new Map(),
    });
    return 1;
  }

  clear(): number {
    const unclaimed = [...this.live.values()].filter(({ state }) => state !== "processing");
    for (const { id } of unclaimed) this.cancelled.add(id);
    for (const { id } of unclaimed) this.#failed(id);
    for (const { id } of unclaimed) this.live.delete(id);
    for (const { id } of unclaimed) this.#ended(id);
    this.#buryDependents();
    return unclaimed.length;
  }

  // What honker does.

  honkerEnqueue(payload: number): number {
    const delay = this.seconds * 1_000 - this.now;
    const id = this.enqueue({
      payload,
      delay,
      priority: 0,
      maxAttempts: 3,
      expiresIn: null,
      key: null,
      after: [],
      buries: true,
    }) as number;
    const job = this.live.get(id);
    if (job !== undefined) job.dueMs = null;
    return id;
  }

  honkerClaim(worker: string, count: number): number[] {
    const now = this.seconds;
    const taken = [...this.live.values()]
      .filter(
        (job) =>
          job.attempts < job.maxAttempts &&
          (job.expiresAt === null || job.expiresAt > now) &&
          ((job.state === "pending" && Math.floor(job.due / 1_000) <= now) ||
            (job.state === "processing" && (job.claimExpiresAt ?? 0) < now)),
      )
      .sort(
        (a, b) =>
          b.priority - a.priority || Math.floor(a.due / 1_000) - Math.floor(b.due / 1_000) || a.id - b.id,
      )
      .slice(0, count);
    for (const job of taken) {
      Object.assign(job, {
        state: "processing",
        attempts: job.attempts + 1,
        holder: worker,
        claimExpiresAt: now + 300,
      });
    }
    return taken.map(({ id }) => id).sort((a, b) => a - b);
  }

  honkerAck(id: number, worker: string): boolean {
    const job = this.#holds(id, worker);
    if (!job || (job.claimExpiresAt ?? 0) < this.seconds) return false;
    return this.ack(id, worker);
  }

  /** Deletes the job first and buries it then: its key is forgotten, and what was to run after it is buried by us, later. */
  honkerFail(id: number, worker: string): void {
    const job = this.#holds(id, worker);
    if (!job) return;
    this.live.delete(id);
    this.#ended(id);
    this.dead.set(id, { ...job, key: null });
    this.#failed(id);
  }

  honkerRetry(id: number, worker: string, delay: number): void {
    const job = this.#holds(id, worker);
    if (!job) return;
    if (job.attempts >= job.maxAttempts) this.honkerFail(id, worker);
    else {
      // It writes the second; within the second that it was, the millisecond that we have written still counts.
      const second = this.seconds + delay;
      const due = job.dueMs !== null && Math.floor(job.dueMs / 1_000) === second ? job.dueMs : second * 1_000;
      Object.assign(job, { state: "pending", holder: null, claimExpiresAt: null, due });
    }
  }

  /** Remembers nothing: what was to run after it runs. */
  honkerCancel(id: number): boolean {
    if (!this.live.delete(id)) return false;
    this.#ended(id);
    return true;
  }

  #holds(id: number, holder: string): ModelJob | false {
    const job = this.live.get(id);
    return job !== undefined && job.holder === holder ? job : false;
  }

  #sweep(): void {
    for (const job of this.live.values()) {
      if (job.state === "processing" && (job.claimExpiresAt ?? 0) < this.seconds) job.state = "pending";
    }
    for (const job of [...this.live.values()]) {
      const isSpent = job.state === "pending" && job.attempts >= job.maxAttempts;
      if (this.live.has(job.id) && (isSpent || this.#isLate(job))) {
        this.#bury(job);
        this.#buryDependents();
      }
    }
    this.#buryDependents();
  }

  #isLate({ state, expiresAt }: ModelJob): boolean {
    return state !== "processing" && expiresAt !== null && expiresAt <= this.seconds;
  }

  #bury(job: ModelJob): void {
    this.dead.set(job.id, job);
    this.#failed(job.id);
    this.live.delete(job.id);
    this.#ended(job.id);
  }

  #failed(parent: number): void {
    for (const child of this.live.values()) {
      const edge = child.parents.get(parent);
      if (edge === undefined || !edge.buries) continue;
      edge.outcome = "failed";
      if (child.state === "pending") child.state = "waiting";
    }
  }

  #ended(parent: number): void {
    for (const child of this.live.values()) {
      const edge = child.parents.get(parent);
      if (edge === undefined) continue;
      if (edge.outcome === "open") edge.outcome = "ended";
      const isFree = [...child.parents.values()].every(({ outcome }) => outcome === "ended");
      if (child.state === "waiting" && isFree) child.state = "pending";
    }
  }

  #buryDependents(): void {
    for (;;) {
      const failed = [...this.live.values()].find(({ parents }) =>
        [...parents.values()].some(({ outcome }) => outcome === "failed"),
      );
      if (failed === undefined) return;
      this.#bury(failed);
    }
  }
}
