import { z } from "zod";

import type { Duration } from "../duration.ts";
import { duration, readOptions } from "../options.ts";
import type { Schema } from "../payload.ts";
import { readPriority } from "../queue/enqueue-options.ts";
import {
  type QueueOptions,
  type QueueTerms,
  readQueueOptions,
  standardSchema,
} from "../queue/queue-options.ts";
import { readTimeout } from "../queue/work-options.ts";

export interface TaskOptions extends QueueOptions {
  /** The queue that its jobs are in. Default: the task's name, so that a worker never claims what it cannot run. */
  readonly queue?: string | undefined;
  /** How long a handler may take, from its start; see `WorkOptions.timeout`, over which this wins. */
  readonly timeout?: Duration | undefined;
  /** Integer from -100 to 100; higher runs first. Default 0. */
  readonly priority?: number | undefined;
}

export interface TaskSchemas {
  /** Of what the task is enqueued with. Default: nothing. */
  readonly input?: Schema | undefined;
  /** Of what its handler returns. */
  readonly output?: Schema | undefined;
}

const TASK_OPTIONS = z.strictObject({
  queue: z.string().min(1).optional(),
  timeout: duration.optional(),
  priority: z.number().optional(),
  input: standardSchema.optional(),
  output: standardSchema.optional(),
}) as z.ZodType<Omit<TaskOptions, keyof QueueOptions> & TaskSchemas>;

/** What a task's options say. Times in milliseconds. */
export interface TaskTerms {
  readonly queue: string;
  readonly timeout: number | undefined;
  readonly priority: number;
  readonly input: Schema | undefined;
  /** As of a queue of its own; without a schema of the payload, which is an envelope. */
  readonly jobs: QueueTerms;
}

/** @throws TypeError, RangeError */
export function readTaskOptions(name: string, options: (TaskOptions & TaskSchemas) | undefined): TaskTerms {
  const { queue, timeout, priority, input, output, ...jobs } = options ?? {};
  for (const key of ["schema", "result"]) {
    if (key in jobs) throw new TypeError(`task: unknown option ${key}; a task has input and output`);
  }
  const read = readOptions("task", TASK_OPTIONS, { queue, timeout, priority, input, output });
  return {
    queue: read.queue ?? name,
    timeout: readTimeout(read.timeout, "task"),
    priority: readPriority(read.priority ?? 0, "task"),
    input: read.input,
    jobs: readQueueOptions("task", { ...jobs, keepResult: jobs.keepResult ?? "1h", result: read.output }),
  };
}
