import { MessageChannel } from "node:worker_threads";

import type { Duration } from "../../duration.ts";
import { PayloadError, UnrecoverableError } from "../../errors.ts";
import { messageOf } from "../../payload.ts";
import type { Alarms } from "../../wake/alarms.ts";
import type { Job } from "../job.ts";
import type { Answer, Call, FromThread, Thrown, ToThread } from "./messages.ts";
// @ts-expect-error it is imported as text, not as a module
import source from "./thread.ts" with { type: "text" };

/** Milliseconds that a module may take to load. */
const LOADS_WITHIN = 10_000;

let url: string | undefined;

/** The job that a thread works on. */
interface Current {
  readonly job: Job<unknown>;
  readonly abort: () => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** A thread that runs a handler for one job after the other. */
export class HandlerThread {
  readonly #thread: Worker;
  readonly #crashed: (error: unknown) => void;
  readonly #answers = new MessageChannel();
  readonly #isAnswered = new Int32Array(new SharedArrayBuffer(4));
  readonly #loaded = Promise.withResolvers<void>();
  readonly #alarms: Alarms;
  #isLoaded = false;
  #isOver = false;
  #current: Current | undefined;

  /** `crashed` is told when it ends while it works on nothing. */
  constructor(module: URL, alarms: Alarms, crashed: (error: unknown) => void) {
    this.#alarms = alarms;
    this.#crashed = crashed;
    this.#loaded.promise.catch(() => {}); // whoever waits for it is told
    // From text, so that a program that is bundled or compiled into one file carries it along.
    url ??= URL.createObjectURL(new Blob([source as string], { type: "application/typescript" }));
    this.#thread = new Worker(url, { name: "honkbun handler" });
    this.#thread.unref(); // the worker keeps the process alive
    this.#thread.onmessage = ({ data }: MessageEvent<FromThread>) => this.#receive(data);
    this.#thread.onerror = (event) => {
      event.preventDefault();
      this.#crash(new Error(event.message));
    };
    this.#thread.addEventListener("close", (event) => {
      const { code } = event as CloseEvent;
      this.#crash(new Error(`the thread of ${module.href} has ended, with exit code ${code}`));
    });
    alarms.set(this, LOADS_WITHIN, () =>
      this.#crash(new Error(`${module.href} was not loaded within ${LOADS_WITHIN} ms`)),
    );
    const { port2: answers } = this.#answers;
    this.#send({ kind: "load", module: module.href, answers, isAnswered: this.#isAnswered }, [answers]);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Resolves when it can run jobs; rejects when its module cannot be loaded. */
  get loaded(): Promise<void> {
    return this.#loaded.promise;
  }

  /** Resolves with what the handler returns; rejects with what it throws, and with what ends the thread. */
  run(job: Job<unknown>): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const { id, queue, payload, attempt, maxAttempts, priority, enqueuedAt, signal } = job;
    try {
      this.#send({ kind: "run", job: { id, queue, payload, attempt, maxAttempts, priority, enqueuedAt } });
    } catch (cause) {
      reject(
        new PayloadError(
          `job ${id} of ${queue}: the payload cannot be passed to a thread: ${messageOf(cause)}`,
          { cause },
        ),
      );
      return promise;
    }
    const abort = (): void => this.#send({ kind: "abort", reason: toThrown(signal.reason) });
    this.#current = { job, abort, resolve, reject };
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    return promise;
  }

  /** Ends the thread, wherever its handler is. */
  terminate(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#alarms.clear(this);
    this.#thread.terminate();
    this.#answers.port1.close();
    this.#loaded.reject(reason);
    this.#leave()?.reject(reason);
  }

  #crash(error: unknown): void {
    if (this.#isOver) return;
    const isIdle = this.#isLoaded && this.#current === undefined;
    this.terminate(error);
    if (isIdle) this.#crashed(error);
  }

  #receive(message: FromThread): void {
    if (this.#isOver) return;
    switch (message.kind) {
      case "loaded":
        this.#isLoaded = true;
        this.#alarms.clear(this);
        this.#loaded.resolve();
        break;
      case "unloadable":
      case "crashed":
        this.#crash(toError(message.error));
        break;
      case "call":
        this.#answer(message);
        break;
      case "returned":
        this.#leave()?.resolve(message.value);
        break;
      case "threw":
        this.#leave()?.reject(toError(message.error));
        break;
      default:
        message satisfies never;
    }
  }

  #leave(): Current | undefined {
    const current = this.#current;
    this.#current = undefined;
    current?.job.signal.removeEventListener("abort", current.abort);
    return current;
  }

  #answer(call: Call): void {
    let answer: Answer = {};
    try {
      if (this.#current !== undefined) perform(this.#current.job, call);
    } catch (error) {
      answer = { error: toThrown(error) };
    }
    this.#answers.port1.postMessage(answer);
    Atomics.store(this.#isAnswered, 0, 1);
    Atomics.notify(this.#isAnswered, 0);
  }

  #send(message: ToThread, transfer: Bun.Transferable[] = []): void {
    this.#thread.postMessage(message, transfer);
  }
}

function perform(job: Job<unknown>, call: Call): void {
  switch (call.method) {
    case "ack":
      job.ack({ result: call.result });
      break;
    case "retry":
      job.retry({
        ...(call.delay === undefined ? {} : { delay: call.delay as Duration }),
        ...(call.error === undefined ? {} : { error: toError(call.error) }),
      });
      break;
    case "fail":
      job.fail(toError(call.error));
      break;
    case "snooze":
      job.snooze(call.delay as Duration);
      break;
    case "heartbeat":
      job.heartbeat(call.extend as Duration | undefined);
      break;
    case "progress":
      job.progress(call.value);
      break;
    default:
      call satisfies never;
  }
}

function toThrown(error: unknown): Thrown {
  if (!(error instanceof Error)) return { value: String(error) };
  const { name, message, stack, code } = error as Error & { readonly code?: unknown };
  return { name, message, stack, code, cause: undefined };
}

function toError(thrown: Thrown): unknown {
  if ("value" in thrown) return thrown.value;
  const { name, message, stack, code } = thrown;
  const options = thrown.cause === undefined ? undefined : { cause: toError(thrown.cause) };
  const error =
    code === "HONKBUN_UNRECOVERABLE"
      ? new UnrecoverableError(message, options)
      : Object.assign(new Error(message, options), { name }, code === undefined ? {} : { code });
  return Object.assign(error, { stack });
}
