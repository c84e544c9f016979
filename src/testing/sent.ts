import { readStored } from "../payload.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Pool } from "../sqlite/pool.ts";
import { isRecording, prepareRecordingStatements, prepareStoredStatements } from "./recording.ts";
import { stateOf } from "./test-state.ts";

/** Something that was enqueued, published or notified. */
export interface Sent {
  /** For people. */
  readonly label: string;
  readonly payload: unknown;
  /** Undefined: not known. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** The jobs that were enqueued on a queue; where nothing is recorded those that are there still. */
export function readEnqueued(pool: Pool, queue: string): readonly Sent[] {
  const clock = stateOf(pool)?.clock;
  const rows = pool.read((connection) => sourceOf(connection).jobs.all(queue));
  return rows.map(({ seq, id, payload, priority, due, unique_key: uniqueKey }) => ({
    label: `job ${id}: `,
    payload: readStored(payload, undefined),
    details:
      clock === undefined
        ? { priority }
        : { priority, delay: Math.max(due - clock.timeOf(seq), 0), uniqueKey },
  }));
}

/** The events that were published to a topic; where nothing is recorded those that are there still. */
export function readPublished(pool: Pool, topic: string): readonly Sent[] {
  const rows = pool.read((connection) => sourceOf(connection).events.all(topic));
  return rows.map(({ key, payload }) => ({
    label: "",
    payload: readStored(payload, undefined),
    details: { key },
  }));
}

/** The notifications that were sent on a channel; where nothing is recorded those that are there still. */
export function readNotified(
  pool: Pool,
  channel: string,
): { readonly sent: readonly Sent[]; readonly others: readonly string[] } {
  return pool.read((connection) => {
    const { notifications, channels } = sourceOf(connection);
    const sent = notifications.all(channel).map(({ payload }) => ({
      label: "",
      payload: readStored(payload, undefined),
      details: {},
    }));
    const others = channels.all().map((row) => row.channel);
    return { sent, others: others.filter((other) => other !== channel) };
  });
}

function sourceOf(connection: Connection) {
  return connection.use(isRecording(connection) ? prepareRecordingStatements : prepareStoredStatements);
}
