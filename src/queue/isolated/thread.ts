// Runs in the threads of isolated handlers, from its text: it can import types only, and what comes with Bun.
import { receiveMessageOnPort } from "node:worker_threads";

import type { Answer, Call, FromThread, JobFields, Thrown, ToThread } from "./messages.ts";

declare const self: Worker;

type Load = Extract<ToThread, { kind: "load" }>;

let handler: (job: ThreadJob) => unknown;
let load: Load;
let current: ThreadJob | undefined;

self.onmessage = ({ data }: MessageEvent<ToThread>) => {
  if (data.kind === "load") void start(data);
  else if (data.kind === "run") void run(data.job);
  else current?.abort(toError(data.reason));
};

for (const event of ["uncaughtException", "unhandledRejection"]) {
  process.on(event, (error: unknown) => send({ kind: "crashed", error: toThrown(error) }));
}

async function start(data: Load): Promise<void> {
  load = data;
  try {
    handler = (await import(data.module)).default;
    if (typeof handler !== "function")
      throw new TypeError(`work: ${data.module} must have a handler as its default export`);
    send({ kind: "loaded" });
  } catch (error) {
    send({ kind: "unloadable", error: toThrown(error) });
  }
}

async function run(fields: JobFields): Promise<void> {
  const job = new ThreadJob(fields);
  current = job;
  let end: FromThread;
  try {
    end = { kind: "returned", value: await handler(job) };
  } catch (error) {
    end = { kind: "threw", error: toThrown(error) };
  }
  current = undefined;
  try {
    send(end);
  } catch (error) {
    send({ kind: "threw", error: toThrown(uncloneable(job, "result", error)) });
  }
}

/** The job as its handler sees it here: what changes it is done by the thread that has claimed it, while this one waits. */
class ThreadJob {
  readonly id: number;
  readonly queue: string;
  readonly payload: unknown;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  readonly enqueuedAt: Date;
  readonly #abort = new AbortController();
  #settled = false;

  constructor(fields: JobFields) {
    this.id = fields.id;
    this.queue = fields.queue;
    this.payload = fields.payload;
    this.attempt = fields.attempt;
    this.maxAttempts = fields.maxAttempts;
    this.priority = fields.priority;
    this.enqueuedAt = fields.enqueuedAt;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get settled(): boolean {
    return this.#settled;
  }

  abort(reason: unknown): void {
    this.#abort.abort(reason);
  }

  ack(options?: { readonly result?: unknown }): void {
    this.#settle("ack", options, { method: "ack", result: options?.result });
  }

  retry(options?: { readonly delay?: unknown; readonly error?: unknown }): void {
    const error = options?.error === undefined ? undefined : toThrown(options.error);
    this.#settle("retry", options, { method: "retry", delay: options?.delay, error });
  }

  fail(error: unknown, options?: object): void {
    this.#settle("fail", options, { method: "fail", error: toThrown(error) });
  }

  snooze(delay: unknown, options?: object): void {
    this.#settle("snooze", options, { method: "snooze", delay });
  }

  heartbeat(extend?: unknown): void {
    this.#call({ method: "heartbeat", extend });
  }

  progress(value: unknown): void {
    this.#call({ method: "progress", value });
  }

  #settle(name: string, options: object | undefined, call: Call): void {
    if (options !== undefined && "tx" in options && options.tx !== undefined) {
      throw new TypeError(
        `${name}: tx cannot be given in an isolated handler, whose job is settled by another thread`,
      );
    }
    this.#call(call);
    this.#settled = true;
  }

  #call(call: Call): void {
    if (current !== this) {
      throw toError({
        name: "JobSettledError",
        message: `${call.method}: the handler of job ${this.id} of ${this.queue} has ended`,
        stack: undefined,
        code: "HONKBUN_JOB_SETTLED",
        cause: undefined,
      });
    }
    try {
      send({ kind: "call", ...call });
    } catch (error) {
      throw uncloneable(this, `argument of ${call.method}`, error);
    }
    Atomics.wait(load.isAnswered, 0, 0);
    Atomics.store(load.isAnswered, 0, 0);
    const { message } = receiveMessageOnPort(load.answers) as { readonly message: Answer };
    const { error } = message;
    if (error !== undefined) throw toError(error);
  }
}

function send(message: FromThread): void {
  self.postMessage(message);
}

function uncloneable({ id, queue }: ThreadJob, what: string, cause: unknown): unknown {
  return toError({
    name: "PayloadError",
    message: `job ${id} of ${queue}: the ${what} cannot be passed to another thread: ${(cause as Error).message}`,
    stack: undefined,
    code: "HONKBUN_PAYLOAD",
    cause: undefined,
  });
}

function toThrown(error: unknown, depth = 0): Thrown {
  if (error instanceof Error) {
    const { name, message, stack, cause, code } = error as Error & { readonly code?: unknown };
    return {
      name: String(name),
      message: String(message),
      stack,
      code: typeof code === "number" ? code : code === undefined ? undefined : String(code),
      cause: cause === undefined || depth > 10 ? undefined : toThrown(cause, depth + 1),
    };
  }
  try {
    return { value: structuredClone(error) };
  } catch {
    return { value: String(error) };
  }
}

function toError(thrown: Thrown): unknown {
  if ("value" in thrown) return thrown.value;
  const { name, message, code } = thrown;
  const error =
    name === "TypeError"
      ? new TypeError(message)
      : name === "RangeError"
        ? new RangeError(message)
        : new Error(message);
  return Object.assign(error, { name }, code === undefined ? {} : { code });
}
