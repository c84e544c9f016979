import { type Duration, show, toEpoch, toMilliseconds } from "../duration.ts";
import { assertName } from "../options.ts";

/** How a job stands to others. */
export interface FlowOptions {
  /**
   * Jobs of a group run one after the other, in the order in which they were enqueued, whatever their priorities; a delayed one
   * joins its group when it is due. A job that is retried or snoozed keeps its place, and the others wait.
   */
  readonly group?: string | undefined;
  /** Ids of jobs, of any queue, after which this one runs: once all have ended. */
  readonly after?: readonly number[] | undefined;
  /** What becomes of this job when one of those before it is buried or cancelled. `"bury"` (default): it is, too. */
  readonly ifFailed?: "bury" | "run" | undefined;
  /** Of all jobs of the queue with this key there is one at a time. */
  readonly uniqueKey?: string | undefined;
  /**
   * How long a job takes its key: until it has `"end"`ed (default), acked, buried or cancelled; or until its `"start"`, so that
   * one that is enqueued while it runs is another job.
   */
  readonly uniqueUntil?: "start" | "end" | undefined;
  /** The key stays taken for so long at least, from the enqueue on, though the job has ended. A cancelled one frees it. */
  readonly uniqueFor?: Duration | undefined;
  /**
   * When the key is taken. `"keep"` (default): the job that has it stands for this one. `"replace"`: that job gets the payload, due
   * time, priority, expiry and attempts of this one, unless it is running; it stays in its group. `"reject"`: DuplicateJobError.
   */
  readonly onDuplicate?: "keep" | "replace" | "reject" | undefined;
}

export const FLOW: readonly (keyof FlowOptions)[] = [
  "group",
  "after",
  "ifFailed",
  "uniqueKey",
  "uniqueUntil",
  "uniqueFor",
  "onDuplicate",
];

export type OnDuplicate = "keep" | "replace" | "reject";

/** What is stored of a unique key. */
export interface UniqueTerms {
  readonly key: string;
  readonly untilStart: boolean;
  /** Epoch milliseconds. */
  readonly until: number | null;
  readonly onDuplicate: OnDuplicate;
}

/** What is stored of the options. */
export interface JobFlow {
  readonly group: string | null;
  /** Each once. */
  readonly after: readonly number[];
  /** Whether a failure among those buries this one. */
  readonly buries: boolean;
  readonly unique: UniqueTerms | null;
  /** For errors. */
  readonly call: string;
}

/**
 * Undefined for a job that stands alone.
 * @throws TypeError, RangeError
 */
export function readFlow(options: FlowOptions, now: number, call: string): JobFlow | undefined {
  const { group, after, ifFailed } = options;
  const unique = readUnique(options, now, call);
  if (group !== undefined) assertName(group, `${call}: group`);
  assertOneOf(ifFailed, ["bury", "run"], `${call}: ifFailed`);
  if (ifFailed !== undefined && after === undefined) throw new TypeError(`${call}: ifFailed needs after`);
  if (group === undefined && after === undefined && unique === null) return undefined;
  if (after !== undefined && unique?.onDuplicate === "replace") {
    throw new TypeError(`${call}: after cannot be given together with onDuplicate "replace"`);
  }
  return {
    group: group ?? null,
    after: after === undefined ? [] : readAfter(after, call),
    buries: ifFailed !== "run",
    unique,
    call,
  };
}

function readUnique(options: FlowOptions, now: number, call: string): UniqueTerms | null {
  const { uniqueKey: key, uniqueUntil, uniqueFor, onDuplicate } = options;
  if (key === undefined) {
    for (const option of ["uniqueUntil", "uniqueFor", "onDuplicate"] as const) {
      if (options[option] !== undefined) throw new TypeError(`${call}: ${option} needs uniqueKey`);
    }
    return null;
  }
  assertName(key, `${call}: uniqueKey`);
  assertOneOf(uniqueUntil, ["start", "end"], `${call}: uniqueUntil`);
  assertOneOf(onDuplicate, ["keep", "replace", "reject"], `${call}: onDuplicate`);
  return {
    key,
    untilStart: uniqueUntil === "start",
    until:
      uniqueFor === undefined
        ? null
        : toEpoch(now + toMilliseconds(uniqueFor, `${call}: uniqueFor`), `${call}: uniqueFor`),
    onDuplicate: onDuplicate ?? "keep",
  };
}

function readAfter(after: readonly number[], call: string): readonly number[] {
  if (!Array.isArray(after) || ![...after].every((id) => Number.isSafeInteger(id))) {
    throw new TypeError(`${call}: after must be an array of job ids, got ${show(after)}`);
  }
  return [...new Set(after)];
}

function assertOneOf(value: unknown, allowed: readonly string[], option: string): void {
  if (value === undefined || allowed.includes(value as string)) return;
  const list = allowed.map((one) => JSON.stringify(one)).join(" or ");
  throw new TypeError(`${option} must be ${list}, got ${show(value)}`);
}
