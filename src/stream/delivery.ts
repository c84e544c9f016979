import { Job, type JobContext } from "../queue/job.ts";
import type { Claim } from "../queue/lease.ts";
import type { LiveRow } from "../queue/statements.ts";
import type { StreamEvent } from "./event.ts";
import type { EventRow } from "./statements.ts";

/** What a job of a group holds: the event, which may be trimmed meanwhile; `payload` is JSON text. */
export interface StoredDelivery {
  readonly offset: number;
  readonly key: string | null;
  readonly payload: string;
  /** In seconds. */
  readonly at: number;
}

export function toDelivery({ offset, key, payload, created_at }: EventRow): StoredDelivery {
  return { offset, key, payload, at: created_at };
}

export function toRow({ offset, key, payload, at }: StoredDelivery): EventRow {
  return { offset, key, payload, created_at: at };
}

/** An event in the hands of one member of a group; its payload is the event's. */
export class Delivery<E> extends Job<E> {
  /** @internal */
  readonly event: StreamEvent<E>;

  /** @internal */
  constructor(row: LiveRow, queue: string, event: StreamEvent<E>, claim: Claim, context: JobContext) {
    super(row, queue, event.payload, claim, context);
    this.event = event;
  }
}
