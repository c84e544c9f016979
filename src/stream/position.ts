import { show } from "../duration.ts";
import type { Connection } from "../sqlite/connection.ts";
import { prepareStreamStatements } from "./statements.ts";
import { trimmedThrough } from "./trimming.ts";

/** Where to read a stream from: all that is there, only what comes, after an offset, or from a time on. */
export type Position = "start" | "end" | number | Date;

/** @throws TypeError, RangeError; `option` names it. */
export function assertPosition(value: unknown, option: string): asserts value is Position {
  if (value === "start" || value === "end") return;
  if (value instanceof Date && !Number.isNaN(value.getTime())) return;
  if (typeof value === "number") {
    if (Number.isSafeInteger(value) && value >= 0) return;
    throw new RangeError(`${option} must be an offset of 0 or more, got ${show(value)}`);
  }
  throw new TypeError(`${option} must be "start", "end", an offset or a Date, got ${show(value)}`);
}

/** The offset after which to read. */
export function resolvePosition(connection: Connection, topic: string, position: Position): number {
  const { lastOffset } = connection.use(prepareStreamStatements);
  if (position === "start") return trimmedThrough(connection, topic);
  if (position === "end") return lastOffset.get()?.offset ?? 0;
  if (typeof position === "number") return position;
  return before(connection, topic, Math.floor(position.getTime() / 1_000));
}

/**
 * How far a consumer is; undefined for one that has saved nothing.
 * @throws TypeError for what somebody else has stored, and is no offset
 */
export function savedOffset(connection: Connection, topic: string, consumer: string): number | undefined {
  const row = connection.use(prepareStreamStatements).saved.get(topic, consumer);
  if (row !== null) assertOffset(row.offset, `consumer ${consumer} of ${topic}`);
  return row?.offset;
}

/** @throws TypeError */
export function assertOffset(stored: unknown, whose: string): void {
  if (Number.isSafeInteger(stored)) return;
  throw new TypeError(`${whose}: what is stored as its offset is none: ${show(stored)}`);
}

/** The largest offset whose event, of this topic, is older than a time: found by halving, because times have no index. */
function before(connection: Connection, topic: string, seconds: number): number {
  const { at, lastOffset } = connection.use(prepareStreamStatements);
  // Events up to `older` are older than that time, and those from `newer` on are not.
  let older = trimmedThrough(connection, topic);
  let newer = (lastOffset.get()?.offset ?? 0) + 1;
  while (newer - older > 1) {
    const middle = Math.floor((older + newer) / 2);
    const found = at.get(topic, middle);
    if (found === null || found.created_at >= seconds) newer = middle;
    else older = found.offset;
  }
  return older;
}
