import { z } from "zod";

import { show } from "../duration.ts";
import { assertName, readOptions, type Retention, retention, signal } from "../options.ts";
import type { Schema } from "../payload.ts";
import { standardSchema } from "../queue/queue-options.ts";
import type { SignalOption } from "../signal.ts";
import { assertPosition, type Position } from "./position.ts";
import type { ProcessOptions } from "./processor.ts";

export interface StreamOptions {
  /**
   * How long events are kept, and how many of them: what is beyond is trimmed now and then by whoever publishes, in bounded
   * portions, and never past a consumer. Default: for ever.
   */
  readonly retain?: Retention | undefined;
}

export interface StreamSchemas {
  /** Of the payload. */
  readonly schema?: Schema | undefined;
}

export interface SubscribeOptions extends SignalOption {
  /** Under this name it is saved how far the events are handled. Without one nothing is saved. */
  readonly consumer?: string | undefined;
  /** Where to begin. Default `"saved"`: where the consumer was, or at the start when nothing is saved. */
  readonly from?: "saved" | Position | undefined;
  /** Only events with this key. */
  readonly key?: string | undefined;
  /**
   * Called with an offset when the events up to it were trimmed before this subscriber could read them; it goes on after it.
   * Without it the iterator throws `OffsetTrimmedError`.
   */
  readonly onTrimmed?: ((through: number) => void) | undefined;
}

const position = z.custom<"saved" | Position>(() => true);
const STREAM_OPTIONS = z.strictObject({
  schema: standardSchema.optional(),
  retain: retention.optional(),
}) as z.ZodType<StreamOptions & StreamSchemas>;
const PROCESS_OPTIONS = z.strictObject({
  signal: signal.optional(),
  from: position.optional(),
  onError: z.enum(["stop", "skip", "dead"]).optional(),
}) as z.ZodType<ProcessOptions>;
const SUBSCRIBE_OPTIONS = z.strictObject({
  signal: signal.optional(),
  consumer: z.string().min(1).optional(),
  from: position.optional(),
  key: z.string().optional(),
  onTrimmed: z
    .custom<(through: number) => void>((value) => typeof value === "function", "must be a function")
    .optional(),
}) as z.ZodType<SubscribeOptions>;

/** @throws TypeError, RangeError */
export function readStreamOptions(
  options: (StreamOptions & StreamSchemas) | undefined,
): StreamOptions & StreamSchemas {
  return readOptions("stream", STREAM_OPTIONS, options);
}

/** @throws TypeError, RangeError */
export function readProcessOptions(options: ProcessOptions | undefined): ProcessOptions {
  const read = readOptions("process", PROCESS_OPTIONS, options);
  if (read.from !== undefined) assertPosition(read.from, "process: from");
  return read;
}

/** @throws TypeError, RangeError */
export function readSubscribeOptions(options: SubscribeOptions | undefined): SubscribeOptions {
  const read = readOptions("subscribe", SUBSCRIBE_OPTIONS, options);
  if (read.consumer !== undefined) assertName(read.consumer, "subscribe: consumer");
  if (read.key?.isWellFormed() === false) {
    throw new TypeError(`subscribe: key must be well-formed Unicode, got ${show(read.key)}`);
  }
  if (read.from !== undefined && read.from !== "saved") assertPosition(read.from, "subscribe: from");
  return read;
}
