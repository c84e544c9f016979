import { deserialize, readStored, type Schema } from "../payload.ts";
import type { EventRow } from "./statements.ts";

/** What was published to a topic. */
export interface StreamEvent<E> {
  /** Ascending in the order of commits, over all topics. */
  readonly offset: number;
  readonly topic: string;
  readonly key: string | null;
  readonly payload: E;
  /** When it was published, to the second. */
  readonly at: Date;
}

/** A class, because a replay makes millions of them, and few are asked for their time. */
class StoredEvent<E> implements StreamEvent<E> {
  readonly offset: number;
  readonly topic: string;
  readonly key: string | null;
  readonly payload: E;
  readonly #createdAt: number;

  constructor(topic: string, { offset, key, created_at }: EventRow, payload: E) {
    this.offset = offset;
    this.topic = topic;
    this.key = key;
    this.payload = payload;
    this.#createdAt = created_at;
  }

  get at(): Date {
    return new Date(this.#createdAt * 1_000);
  }
}

/**
 * An event, as the schema puts its payload out.
 * @throws PayloadError for one that does not fit it
 */
export function toEvent<E>(topic: string, row: EventRow, schema: Schema | undefined): StreamEvent<E> {
  const payload = deserialize(row.payload, schema, () => `event ${row.offset} of ${topic}`) as E;
  return new StoredEvent(topic, row, payload);
}

/** The same for people who look: what does not fit the schema is told as it is stored. */
export function toStoredEvent<E>(topic: string, row: EventRow, schema: Schema | undefined): StreamEvent<E> {
  return new StoredEvent(topic, row, readStored(row.payload, schema) as E);
}
