import { toUnixSeconds } from "../clock.ts";
import type { JobTerms } from "./enqueue-options.ts";
import type { JobFlow } from "./flow-options.ts";

/** A job that is to be stored. */
export interface NewJob {
  readonly values: Values;
  /** Jobs for which this is the same object differ in nothing but their payload. */
  readonly terms: JobTerms;
  readonly flow: JobFlow | undefined;
  /** Epoch milliseconds. */
  readonly now: number;
}

/** The values of COLUMNS. */
export type Values = readonly [
  queue: string,
  payload: string,
  priority: number,
  runAt: number,
  dueMs: number,
  maxAttempts: number,
  createdAt: number,
  expiresAt: number | null,
  keepResult: number | null,
];

export const COLUMNS =
  "queue, payload, priority, run_at, due_ms, max_attempts, created_at, expires_at, keep_result";

/** A job that was stored, or the one that stands for it. */
export interface Inserted {
  readonly id: number;
  readonly created: boolean;
}

export function newJob(
  queue: string,
  payload: string,
  terms: JobTerms,
  keepResult: number | null,
  now: number,
): NewJob {
  const { due, priority, maxAttempts, expiresAt, flow } = terms;
  const [runAt, createdAt] = [toUnixSeconds(due), toUnixSeconds(now)];
  const values: Values = [
    queue,
    payload,
    priority,
    runAt,
    due,
    maxAttempts,
    createdAt,
    expiresAt,
    keepResult,
  ];
  return { values, terms, flow, now };
}
