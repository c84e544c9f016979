// Runs in the threads of isolated handlers, from its text: it can import types only, and what comes with Bun.
import { receiveMessageOnPort } from "node:worker_threads";

import type { Answer, Call, FromThread, JobFields, Load, Thrown, ToThread } from "./messages.ts";

declare const self: Worker;

let load: Load;
let handler: (job: ThreadJob) => unknown;
let current: ThreadJob | undefined;

self.onmessage = ({ data }: MessageEvent<Load>) => {
  self.onmessage = null;
  load = data;
  load.messages.on("message", (message: ToThread) => {
    if (message.kind === "run") void run(message.job);
    else current?.abort(toError(message.reason));
  });
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error: unknown) => send({ kind: "crashed", error: toThrown(error) }));
  }
  void start();
};

async function start(): Promise<void> {
  try {
    handler = (await import(load.module)).default;
    if (typeof handler !== "function")
      throw new TypeError(`work: ${load.module} must have a handler as its default export`);
    send({ kind: "loaded" });
  } catch (error) {
    send({ kind: "unloadable", error: toThrown(error) });
  }
}

async function run(fields: JobFields): Promise<void> {
  const job = new ThreadJob(fields);
  current = job;
  send({ kind: "begun" });
  let end: FromThread;
  try {
    const result = await handler(job);
    end = { kind: "returned", value: job.serialize(result, "result") };
  } catch (error) {
    end = { kind: "threw", error: toThrown(error) };
  }
  current = undefined;
  send(end);
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
  readonly #keepsResult: boolean;
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
    this.#keepsResult = fields.keepsResult;
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
    assertKnown("ack", options, "result");
    this.#settle({ method: "ack", result: this.serialize(options?.result, "result") });
  }

  retry(options?: { readonly delay?: unknown; readonly error?: unknown }): void {
    assertKnown("retry", options, "delay", "error");
    const error = options?.error === undefined ? undefined : toThrown(options.error);
    this.#settle({ method: "retry", delay: options?.delay, error });
  }

  fail(error: unknown, options?: object): void {
    assertKnown("fail", options);
    this.#settle({ method: "fail", error: toThrown(error) });
  }

  snooze(delay: unknown, options?: object): void {
    assertKnown("snooze", options);
    this.#settle({ method: "snooze", delay });
  }

  heartbeat(extend?: unknown): void {
    this.#call({ method: "heartbeat", extend });
  }

  progress(value: unknown): void {
    this.#call({ method: "progress", value: this.serialize(value, "progress") });
  }

  /** JSON text; a result that nobody keeps may be anything. */
  serialize(value: unknown, what: "result" | "progress"): string | undefined {
    if (what === "result" && !this.#keepsResult) return undefined;
    let text: string | undefined;
    let why: unknown = typeof value;
    try {
      text = JSON.stringify(value);
    } catch (error) {
      why = error;
    }
    if (text !== undefined || value === undefined) return text;
    const message = `${what} of job ${this.id} of ${this.queue}: the payload cannot be stored as JSON: ${why}`;
    throw toError(ownError("PayloadError", message, "HONKBUN_PAYLOAD"));
  }

  #settle(call: Call): void {
    this.#call(call);
    this.#settled = true;
  }

  #call(call: Call): void {
    if (current !== this) {
      const message = `${call.method}: the handler of job ${this.id} of ${this.queue} has ended`;
      throw toError(ownError("JobSettledError", message, "HONKBUN_JOB_SETTLED"));
    }
    send({ kind: "call", call });
    Atomics.wait(load.isAnswered, 0, 0);
    Atomics.store(load.isAnswered, 0, 0);
    const { message } = receiveMessageOnPort(load.answers) as { readonly message: Answer };
    if (message.error !== undefined) throw toError(message.error);
  }
}

function assertKnown(call: string, options: object | undefined, ...known: readonly string[]): void {
  for (const key in options) {
    if (key === "tx") {
      throw new TypeError(
        `${call}: tx cannot be given in an isolated handler, whose job is settled by another thread`,
      );
    }
    if (!known.includes(key)) throw new TypeError(`${call}: unknown option ${key}`);
  }
}

function send(message: FromThread): void {
  load.messages.postMessage(message);
}

function ownError(name: string, message: string, code: string): Thrown {
  return { name, message, stack: undefined, code, cause: undefined };
}

/** Of whatever somebody may throw. */
function toThrown(error: unknown, depth = 0): Thrown {
  try {
    if (!(error instanceof Error)) return { value: structuredClone(error) };
    const { name, message, stack, cause, code } = error as Error & { readonly code?: unknown };
    return {
      name: String(name),
      message: String(message),
      stack: typeof stack === "string" ? stack : undefined,
      code: typeof code === "number" || code === undefined ? code : String(code),
      cause: cause === undefined || depth > 10 ? undefined : toThrown(cause, depth + 1),
    };
  } catch {
    return { value: "something that cannot be passed to another thread" };
  }
}

function toError(thrown: Thrown): unknown {
  if ("value" in thrown) return thrown.value;
  const { name, message, code } = thrown;
  const Class = name === "TypeError" ? TypeError : name === "RangeError" ? RangeError : Error;
  return Object.assign(new Class(message), { name }, code === undefined ? {} : { code });
}
