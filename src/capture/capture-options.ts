import { z } from "zod";

import { show } from "../duration.ts";
import { assertName, readOptions } from "../options.ts";

export type Operation = "insert" | "update" | "delete";

export const OPERATIONS: readonly Operation[] = ["insert", "update", "delete"];

/** Where changes go: each as an event, a notification, or a job. */
export type Into = { readonly stream: string } | { readonly channel: string } | { readonly queue: string };

export interface CaptureOptions {
  /** Default: all three. */
  readonly on?: readonly Operation[] | undefined;
  /**
   * Of which columns old and new values are told, beside the key; an update that changes none of them is no change. Default: all
   * that the table has when this is called.
   */
  readonly columns?: readonly string[] | undefined;
  /** SQL that a change must fulfil, on `old` and `new`, like `"new.total > 100"`: a literal text, into which nothing is put by users. */
  readonly when?: string | undefined;
  readonly into: Into;
}

/** What is stored of a capture. */
export interface CaptureTerms {
  readonly on: readonly Operation[];
  readonly columns: readonly string[] | null;
  readonly when: string | null;
  readonly into: { readonly kind: "stream" | "channel" | "queue"; readonly name: string };
}

const OPTIONS = z.strictObject({
  on: z.array(z.enum(OPERATIONS)).min(1).optional(),
  columns: z.array(z.string()).min(1).optional(),
  when: z.string().optional(),
  into: z.union(
    [
      z.strictObject({ stream: z.string() }),
      z.strictObject({ channel: z.string() }),
      z.strictObject({ queue: z.string() }),
    ],
    "must be { stream }, { channel } or { queue }",
  ),
}) as z.ZodType<CaptureOptions>;

/** @throws TypeError, RangeError */
export function readCapture(call: string, options: CaptureOptions): CaptureTerms {
  const { on, columns, when, into } = readOptions(call, OPTIONS, options);
  const [kind, name] = Object.entries(into)[0] as [CaptureTerms["into"]["kind"], string];
  assertName(name, `${call}: into.${kind}`);
  if (when !== undefined && when.trim() === "") {
    throw new TypeError(`${call}: when must be a condition in SQL, got ${show(when)}`);
  }
  // What makes no part of SQL can be no part of a trigger.
  for (const text of [name, when ?? ""]) {
    if (text.includes("\0")) throw new TypeError(`${call}: must not contain the character U+0000`);
  }
  return {
    on: OPERATIONS.filter((operation) => on?.includes(operation) ?? true),
    columns: columns ?? null,
    when: when?.trim() ?? null,
    into: { kind, name },
  };
}
