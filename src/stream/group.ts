import { toUnixSeconds } from "../clock.ts";
import { show } from "../duration.ts";
import { assertName, readPage } from "../options.ts";
import { deserialize, messageOf, readStored, type Schema } from "../payload.ts";
import type { Backoff } from "../queue/backoff.ts";
import { buryJobs, recordError } from "../queue/burial.ts";
import { type Claimed, Claiming, type Read } from "../queue/claiming.ts";
import { readMaxAttempts } from "../queue/enqueue-options.ts";
import { insertJob } from "../queue/insertion.ts";
import type { Job } from "../queue/job.ts";
import type { Lane } from "../queue/lane.ts";
import type { Claim } from "../queue/lease.ts";
import { newJob } from "../queue/new-job.ts";
import { jobContext, type QueueContext, WORK_VISIBILITY } from "../queue/queue-context.ts";
import { readQueueOptions } from "../queue/queue-options.ts";
import { Queue } from "../queue/queue.ts";
import type { LiveRow } from "../queue/statements.ts";
import { readWorkOptions, type WorkOptions, type WorkTerms } from "../queue/work-options.ts";
import { QueueWorker } from "../queue/worker.ts";
import type { Running } from "../running.ts";
import type { Connection } from "../sqlite/connection.ts";
import { assertStored } from "../sqlite/stored.ts";
import { Delivery, type StoredDelivery, toDelivery, toRow } from "./delivery.ts";
import { type StreamEvent, toEvent, toStoredEvent } from "./event.ts";
import { prepareGroupStatements } from "./group-statements.ts";
import { assertOffset } from "./position.ts";
import type { EventRow } from "./statements.ts";
import { trimmedError, trimmedThrough } from "./trimming.ts";

/** Events that are handed on at once at least, and how many may wait for others of their keys before no more are. */
const PORTION = 50;
const MOST_BLOCKED = 1_000;
const GROUPS = "_honkbun_stream_groups";

export interface GroupWorkOptions extends WorkOptions {
  /** `"key"`: events of a key in order, one at a time, while other keys run beside them. Default `"none"`. */
  readonly order?: "none" | "key" | undefined;
  /** How often an event is delivered before it is dead. Default 3. */
  readonly maxDeliveries?: number | undefined;
  /** How long a delivery that failed waits for the next one. Default exponential from 5 s, at most 1 h, jitter 0.2. */
  readonly backoff?: Backoff | undefined;
}

export type GroupHandler<E> = (event: StreamEvent<E>, delivery: Job<E>) => unknown;

/** Events that could not be handled. */
export interface DeadEvents<E> {
  /** In the order of offsets: at most `limit` (default 100), those `after` an offset. */
  list(options?: {
    readonly limit?: number | undefined;
    readonly after?: number | undefined;
  }): readonly StreamEvent<E>[];
  /**
   * Delivers them again, all or those with these offsets. Returns how many there were.
   * @throws TypeError for a group that never had a member, as of a consumer of `process`
   */
  retry(which: "all" | readonly number[]): number;
  /** Forgets them. Returns how many there were. */
  purge(which: "all" | readonly number[]): number;
}

/** Members in any number of processes, of whom each event goes to one. Events are handed on as jobs of a queue. */
export class StreamGroup<E> {
  readonly name: string;
  readonly #topic: string;
  readonly #schema: Schema | undefined;
  readonly #context: QueueContext;
  readonly #queue: Queue<StoredDelivery>;

  /** @internal */
  constructor(context: QueueContext, topic: string, name: string, schema: Schema | undefined) {
    assertName(name, "group: name");
    this.name = name;
    this.#topic = topic;
    this.#schema = schema;
    this.#context = context;
    // Encoded, so that no two groups have the same, whatever colons are in their names.
    const queue = `_stream:${encodeURIComponent(topic)}:${name}`;
    this.#queue = new Queue(context, queue, readQueueOptions("group", undefined));
  }

  /**
   * Handles events, so many at once, together with the other members, in whatever processes. A group begins with the oldest event
   * there is. `delivery` is the event as a job: what the handler returns acks it, what it throws has it delivered again.
   * @throws TypeError, RangeError
   */
  work(handler: GroupHandler<E>, options?: GroupWorkOptions): Running {
    if (typeof handler !== "function") {
      throw new TypeError(`group.work: handler must be a function, got ${show(handler)}`);
    }
    const { order = "none", maxDeliveries, backoff: wait, ...rest } = options ?? {};
    if (order !== "none" && order !== "key") {
      throw new TypeError(`group.work: order must be "none" or "key", got ${show(order)}`);
    }
    const terms = readQueueOptions("group.work", {
      ...(maxDeliveries === undefined
        ? {}
        : { maxAttempts: readMaxAttempts(maxDeliveries, "group.work: maxDeliveries") }),
      backoff: wait,
    });
    const work = readWorkOptions(rest);
    const { pool } = this.#context;
    pool.writeAll(undefined, (connection) =>
      connection.use(prepareGroupStatements).register.run(this.#topic, this.name),
    );
    const lane = new GroupLane<E>(this.#context, {
      topic: this.#topic,
      name: this.name,
      queue: this.#queue.name,
      schema: this.#schema,
      handler,
      isOrdered: order === "key",
      terms,
      work,
    });
    return new QueueWorker(this.#context, [lane], work);
  }

  /** How many events were delivered, and are neither acked nor dead. */
  pending(): number {
    return this.#context.pool.read((connection) => this.#deliveries(connection).begun);
  }

  /** How many events have yet to be delivered. */
  lag(): number {
    return this.#context.pool.read((connection) => {
      const { ahead } = connection.use(prepareGroupStatements);
      return this.#deliveries(connection).others + (ahead.get(this.#topic, this.name)?.n ?? 0);
    });
  }

  get dead(): DeadEvents<E> {
    const { dead } = this.#queue;
    return {
      list: (options) => this.#listDead(options),
      retry: (which) => {
        const ids = this.#idsOf("group.dead.retry", which);
        this.#assertRegistered();
        return dead.retry(ids);
      },
      purge: (which) => dead.purge(this.#idsOf("group.dead.purge", which)),
    };
  }

  /** @internal Keeps an event as a dead letter, on a connection that is inside a transaction. */
  bury(connection: Connection, row: EventRow, error: unknown): void {
    const now = this.#context.clock();
    const text = JSON.stringify(toDelivery(row));
    const terms = { due: now, priority: 0, maxAttempts: 1, expiresAt: null, flow: undefined };
    const { id } = insertJob(connection, newJob(this.#queue.name, text, terms, null, now), () => {});
    const job = { id, queue: this.#queue.name, attempts: 1, max_attempts: 1 };
    recordError(connection, job, error, now);
    buryJobs(connection, [job], messageOf(error), now, () => {});
  }

  #listDead(
    options: { readonly limit?: number | undefined; readonly after?: number | undefined } | undefined,
  ): readonly StreamEvent<E>[] {
    const { limit, after } = readPage("group.dead.list", options);
    const rows = this.#context.pool.read((connection) =>
      connection.use(prepareGroupStatements).dead.all(this.#queue.name, after, limit),
    );
    return rows.map(({ payload }) => {
      const delivery = readStored(payload, undefined) as StoredDelivery;
      return toStoredEvent<E>(this.#topic, toRow(delivery), this.#schema);
    });
  }

  #idsOf(call: string, which: "all" | readonly number[]): "all" | readonly number[] {
    if (which === "all") return which;
    if (!Array.isArray(which) || ![...which].every((offset) => Number.isSafeInteger(offset))) {
      throw new TypeError(`${call}: which must be "all" or an array of offsets, got ${show(which)}`);
    }
    return this.#context.pool
      .read((connection) =>
        connection.use(prepareGroupStatements).deadIds.all(this.#queue.name, JSON.stringify(which)),
      )
      .map(({ id }) => id);
  }

  /** What a consumer of `process` has buried nobody would deliver again. */
  #assertRegistered(): void {
    const isRegistered = this.#context.pool.read(
      (connection) => connection.use(prepareGroupStatements).handedOn.get(this.#topic, this.name) !== null,
    );
    if (!isRegistered) {
      throw new TypeError(
        `group.dead.retry: ${this.name} of ${this.#topic} has never had a member to deliver to; handle the events, and purge them`,
      );
    }
  }

  #deliveries(connection: Connection): { readonly begun: number; readonly others: number } {
    const { deliveries } = connection.use(prepareGroupStatements);
    return deliveries.get(this.#queue.name) ?? { begun: 0, others: 0 };
  }
}

interface GroupTerms<E> {
  readonly topic: string;
  readonly name: string;
  readonly queue: string;
  readonly schema: Schema | undefined;
  readonly handler: GroupHandler<E>;
  readonly isOrdered: boolean;
  readonly terms: ReturnType<typeof readQueueOptions>;
  readonly work: WorkTerms;
}

/** Hands events on as jobs when the queue runs short of them, and claims those. */
class GroupLane<E> implements Lane<Delivery<E>> {
  readonly queue: string;
  readonly #context: QueueContext;
  readonly #terms: GroupTerms<E>;
  readonly #claiming: Claiming<Delivery<E>>;

  constructor(context: QueueContext, terms: GroupTerms<E>) {
    const { queue, topic, schema } = terms;
    this.queue = queue;
    this.#context = context;
    this.#terms = terms;
    const jobs = jobContext(context, queue, terms.terms);
    this.#claiming = new Claiming(queue, jobs, (row, claim) => {
      const delivery = deserialize(
        row.payload,
        undefined,
        () => `job ${row.id} of ${queue}`,
      ) as StoredDelivery;
      return new Delivery<E>(row, queue, toEvent<E>(topic, toRow(delivery), schema), claim, jobs);
    });
  }

  claim(connection: Connection, count: number, startable: number): Claimed {
    const request = {
      count,
      startable,
      workerId: this.#context.liveness.holder(connection, this.#terms.work.label),
      visibilityTimeout: WORK_VISIBILITY,
      isPatient: false,
    };
    const claimed = this.#claiming.claim(connection, request);
    const left = (claimed.isLimited ? Math.min(count, startable) : count) - claimed.rows.length;
    if (left === 0 || !this.hasMore(connection)) return claimed;
    const lost = this.#passOver(connection);
    this.#handOn(connection, Math.max(left, PORTION));
    const more = this.#claiming.claim(connection, {
      ...request,
      count: left,
      startable: Math.max(startable - claimed.rows.length, 0),
      workerId: claimed.claim.workerId,
    });
    return {
      ...more,
      claim: claimed.claim,
      rows: [...claimed.rows, ...more.rows],
      report: () => {
        claimed.report();
        more.report();
        if (lost !== undefined)
          this.#context.report(lost, `group ${this.#terms.name} of ${this.#terms.topic}`);
      },
    };
  }

  hasMore(connection: Connection): boolean {
    const { topic, name, queue } = this.#terms;
    const { hasEvents, blocked } = connection.use(prepareGroupStatements);
    if (hasEvents.get(topic, name) === null) return false;
    return (blocked.get(queue, MOST_BLOCKED)?.n ?? 0) < MOST_BLOCKED;
  }

  read(row: LiveRow, claim: Claim): Read<Delivery<E>> {
    return this.#claiming.read(row, claim);
  }

  run(delivery: Delivery<E>): unknown {
    return this.#terms.handler(delivery.event, delivery);
  }

  timeout(): number | undefined {
    return this.#terms.work.timeout;
  }

  /** Events may have been trimmed that were not handed on: the group goes on after them, and that is told. */
  #passOver(connection: Connection): Error | undefined {
    const { topic, name } = this.#terms;
    const { handedOn, advance } = connection.use(prepareGroupStatements);
    const offset = handedOn.get(topic, name)?.offset ?? 0;
    assertOffset(offset, `group ${name} of ${topic}`);
    const through = trimmedThrough(connection, topic);
    if (through <= offset) return undefined;
    assertStored(GROUPS, advance.run(topic, name, through).changes > 0);
    return trimmedError(topic, offset, through);
  }

  #handOn(connection: Connection, count: number): void {
    const { topic, name, queue, isOrdered, terms } = this.#terms;
    const { portionEnd, handOn, advance } = connection.use(prepareGroupStatements);
    const through = portionEnd.get(topic, name, count)?.offset ?? null;
    if (through === null) return;
    const now = this.#context.clock();
    handOn.run(queue, toUnixSeconds(now), now, terms.maxAttempts, isOrdered ? 1 : 0, topic, name, through);
    assertStored(GROUPS, advance.run(topic, name, through).changes > 0);
  }
}
