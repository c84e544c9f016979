import { Job, type JobContext } from "../queue/job.ts";
import type { Claim } from "../queue/lease.ts";
import type { LiveRow } from "../queue/statements.ts";
import type { Envelope } from "./envelope.ts";

/** A claimed job of a task; its payload is the task's input. */
export class TaskJob<I> extends Job<I> {
  /** Positional arguments, as a caller in another language gave them; else the input, where that is no object. */
  readonly args: readonly unknown[];
  /** @internal Null for a payload that is no task's. */
  readonly envelope: Envelope | null;

  /** @internal */
  constructor(
    row: LiveRow,
    queue: string,
    input: I,
    claim: Claim,
    context: JobContext,
    envelope: Envelope | null,
  ) {
    super(row, queue, input, claim, context);
    this.args = envelope?.args ?? [];
    this.envelope = envelope;
  }
}
