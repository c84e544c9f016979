import { expect } from "bun:test";

import { Honkbun } from "../database.ts";
import { type Duration, show, toMilliseconds } from "../duration.ts";
import { assertKnown } from "../options.ts";
import { Outbox } from "../queue/outbox.ts";
import { Queue } from "../queue/queue.ts";
import { Stream } from "../stream/stream.ts";
import { readEnvelope } from "../task/envelope.ts";
import { Task } from "../task/task.ts";
import { brief } from "./brief.ts";
import { letToBeEmptyKnowQueues } from "./emptiness.ts";
import { asStored, isAsExpected } from "./expected.ts";
import { isRecording } from "./recording.ts";
import { readEnqueued, readNotified, readPublished, type Sent } from "./sent.ts";

export interface TimesOption {
  /** How often exactly. Default: at least once. */
  readonly times?: number | undefined;
}

export interface EnqueuedOptions extends TimesOption {
  /** How long after it was enqueued it was to run; 0 for at once. */
  readonly delay?: Duration | undefined;
  readonly priority?: number | undefined;
  readonly uniqueKey?: string | undefined;
}

export interface PublishedOptions extends TimesOption {
  readonly key?: string | undefined;
}

// biome-ignore-start lint/suspicious/noExplicitAny: only what is given matters
type SentBy<T> =
  T extends Queue<infer In, any, any>
    ? In
    : T extends Task<infer In, any, any>
      ? In
      : T extends Outbox<infer In>
        ? In
        : never;
type PublishedBy<T> = T extends Stream<infer In, any> ? In : never;
// biome-ignore-end lint/suspicious/noExplicitAny: only what is given matters
/** What `expect` was given is not known any more after `not`. */
type Expected<T, Payload> = unknown extends T ? unknown : Payload;

declare module "bun:test" {
  interface Matchers<T> {
    /**
     * A job with this payload was enqueued on the queue or the outbox, or a run of the task with this input: whatever has become of
     * it since. It is compared as it is stored, and may contain asymmetric matchers; undefined stands for any.
     * @throws TypeError, RangeError for what cannot be compared; ClosedError
     */
    toHaveEnqueued(payload?: Expected<T, SentBy<T>>, options?: EnqueuedOptions): void;
    /** An event with this payload, or with any, was published to the stream. @throws as `toHaveEnqueued` */
    toHavePublished(payload?: Expected<T, PublishedBy<T>>, options?: PublishedOptions): void;
    /** A notification with this payload, or with any, was sent on the channel of the database. @throws as `toHaveEnqueued` */
    toHaveNotified(channel: string, payload?: unknown, options?: TimesOption): void;
  }
}

interface Verdict {
  readonly pass: boolean;
  readonly message: () => string;
}

/** What Bun gives a matcher. */
interface MatcherContext {
  readonly isNot: boolean;
  readonly equals: (a: unknown, b: unknown) => boolean;
}

const TIMES = new Set(["times"]);
const ENQUEUED = new Set(["times", "delay", "priority", "uniqueKey"]);
const PUBLISHED = new Set(["times", "key"]);
/** So many of what was sent are shown, the latest. */
const SHOWN = 20;

letToBeEmptyKnowQueues();

expect.extend({
  toHaveEnqueued(
    this: MatcherContext,
    received: unknown,
    payload?: unknown,
    options?: EnqueuedOptions,
  ): Verdict {
    assertKnown("toHaveEnqueued", options, ENQUEUED);
    const { times, delay, ...others } = options ?? {};
    const task = received instanceof Task ? received.name : undefined;
    const queue = received instanceof Task || received instanceof Outbox ? received.queue : received;
    if (!(queue instanceof Queue)) {
      throw new TypeError(
        `toHaveEnqueued: received must be a queue, a task or an outbox, got ${show(received)}`,
      );
    }
    const { pool } = queue.context;
    for (const option of ["delay", "uniqueKey"] as const) {
      if (options?.[option] !== undefined && !pool.read(isRecording)) {
        throw new TypeError(`toHaveEnqueued: ${option} is known in a database of testDatabase only`);
      }
    }
    const all = readEnqueued(pool, queue.name);
    const sent = task === undefined ? all : all.flatMap((job) => runOf(task, job));
    return judge(this, {
      what: task === undefined ? `enqueued on ${show(queue.name)}` : `enqueued of the task ${show(task)}`,
      sent,
      payload,
      times,
      details: {
        ...(delay === undefined ? {} : { delay: toMilliseconds(delay, "toHaveEnqueued: delay") }),
        ...others,
      },
    });
  },

  toHavePublished(
    this: MatcherContext,
    received: unknown,
    payload?: unknown,
    options?: PublishedOptions,
  ): Verdict {
    assertKnown("toHavePublished", options, PUBLISHED);
    if (!(received instanceof Stream)) {
      throw new TypeError(`toHavePublished: received must be a stream, got ${show(received)}`);
    }
    const { times, ...details } = options ?? {};
    const { topic } = received;
    const sent = readPublished(received.context.pool, topic);
    return judge(this, { what: `published to ${show(topic)}`, sent, payload, times, details });
  },

  toHaveNotified(
    this: MatcherContext,
    received: unknown,
    channel: string,
    payload?: unknown,
    options?: TimesOption,
  ): Verdict {
    assertKnown("toHaveNotified", options, TIMES);
    if (!(received instanceof Honkbun)) {
      throw new TypeError(`toHaveNotified: received must be a database, got ${show(received)}`);
    }
    const { sent, others } = readNotified(received.internals.queues.pool, channel);
    const hint = others.length === 0 ? "" : `; on others: ${others.map(show).join(", ")}`;
    const what = `notified on ${show(channel)}${hint}`;
    return judge(this, { what, sent, payload, times: options?.times, details: {} });
  },
} as never);

interface Expectation {
  /** For the message. */
  readonly what: string;
  readonly sent: readonly Sent[];
  readonly payload: unknown;
  readonly times: number | undefined;
  /** Undefined matches any. */
  readonly details: Readonly<Record<string, unknown>>;
}

function judge(context: MatcherContext, { what, sent, payload, times, details }: Expectation): Verdict {
  if (times !== undefined && !(Number.isSafeInteger(times) && times >= 0)) {
    throw new RangeError(`times must be an integer of 0 or more, got ${show(times)}`);
  }
  const expected = asStored(payload);
  const wanted = Object.entries(details).filter(([, value]) => value !== undefined);
  const matching = sent.filter(
    (one) =>
      (expected === undefined || isAsExpected(one.payload, expected, (a, b) => context.equals(a, b))) &&
      wanted.every(([name, value]) => one.details[name] === value),
  );
  return {
    pass: times === undefined ? matching.length > 0 : matching.length === times,
    message: () => {
      const not = context.isNot ? "not " : "";
      const often = times === undefined ? "" : ` ${times} ${times === 1 ? "time" : "times"}`;
      const terms = wanted.map(([name, value]) => `, ${name} ${show(value)}`).join("");
      const shown = sent.slice(-SHOWN).map((one) => `\n  ${describe(one)}`);
      const left = sent.length > SHOWN ? `\n  and ${sent.length - SHOWN} before` : "";
      return (
        `Expected ${not}to be ${what}${often}: ${expected === undefined ? "anything" : brief(expected)}${terms}\n\n` +
        (sent.length === 0
          ? "There was nothing"
          : `There were ${sent.length}, of which ${matching.length} match:`) +
        shown.join("") +
        left
      );
    },
  };
}

function describe({ label, payload, details }: Sent): string {
  const terms = Object.entries(details)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => `, ${name} ${show(value)}`);
  return `${label}${brief(payload)}${terms.join("")}`;
}

/** What a job is as a run of the task, if it is one. */
function runOf(task: string, job: Sent): readonly Sent[] {
  const envelope = readEnvelope(job.payload);
  if (envelope?.task !== task) return [];
  const { args, kwargs } = envelope;
  return [{ ...job, payload: args.length === 1 && Object.keys(kwargs).length === 0 ? args[0] : kwargs }];
}
