import { MessageChannel, type MessagePort } from "node:worker_threads";

import { UnrecoverableError } from "../../errors.ts";
import { messageOf, stackOf } from "../../payload.ts";
import { assertDescriptorsLeft, threads } from "../../threads.ts";
import type { Alarms } from "../../wake/alarms.ts";
import type { Job, JobCall } from "../job.ts";
import { NotBegunError } from "../lane.ts";
import type { Answer, Call, FromThread, Load, Thrown, ToThread } from "./messages.ts";
// @ts-expect-error it is imported as text, not as a module
import source from "./thread.ts" with { type: "text" };

/** Milliseconds that a module may take to load. */
const LOADS_WITHIN = 10_000;

/** Of the text, made once. */
let sourceUrl: string | undefined;

/** The job that a thread works on. */
interface Current {
  readonly job: Job<unknown>;
  readonly abort: () => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  hasBegun: boolean;
}

export interface ThreadListener {
  /** It has ended by itself while no handler was running. */
  crashed(error: unknown): void;
  /** It is really gone: one that is blocked in a call of the system ends only then. */
  closed(thread: HandlerThread): void;
}

/** A thread that runs a handler for one job after the other. */
export class HandlerThread {
  readonly #thread: Worker;
  readonly #alarms: Alarms;
  readonly #listener: ThreadListener;
  readonly #messages: MessagePort;
  readonly #answers: MessagePort;
  readonly #isAnswered = new Int32Array(new SharedArrayBuffer(4));
  readonly #loaded = Promise.withResolvers<void>();
  #isLoaded = false;
  #isOver = false;
  #current: Current | undefined;

  /** @throws when there are no descriptors left */
  constructor(module: URL, alarms: Alarms, listener: ThreadListener) {
    assertDescriptorsLeft();
    this.#alarms = alarms;
    this.#listener = listener;
    this.#loaded.promise.catch(() => {}); // whoever waits for it is told
    // From text, so that a program that is bundled or compiled into one file carries it along.
    sourceUrl ??= URL.createObjectURL(new Blob([source as string], { type: "application/typescript" }));
    this.#thread = new Worker(sourceUrl, { name: "honkbun handler" });
    threads.running++;
    this.#thread.unref(); // the worker keeps the process alive
    const [messages, answers] = [new MessageChannel(), new MessageChannel()];
    this.#messages = messages.port1;
    this.#answers = answers.port1;
    this.#messages.on("message", (message: FromThread) => this.#receive(message));
    this.#messages.unref();
    this.#thread.onerror = (event) => {
      event.preventDefault();
      this.#crash(new Error(event.message));
    };
    this.#thread.addEventListener("close", (event) => {
      threads.running--;
      this.#crash(
        new Error(`the thread of ${module.href} has ended, with exit code ${(event as CloseEvent).code}`),
      );
      listener.closed(this);
    });
    const load: Load = {
      module: module.href,
      messages: messages.port2,
      answers: answers.port2,
      isAnswered: this.#isAnswered,
    };
    this.#thread.postMessage(load, [load.messages, load.answers] as never);
    try {
      alarms.set(this, LOADS_WITHIN, () =>
        this.#crash(new Error(`${module.href} was not loaded within ${LOADS_WITHIN} ms`)),
      );
    } catch (error) {
      this.terminate(error); // the file was replaced, or the handle closed
    }
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

  /**
   * Resolves with what the handler returns; rejects with what it throws, and with what ends the thread: with NotBegunError
   * when that was before the handler was called.
   */
  run(job: Job<unknown>): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const { id, queue, payload, attempt, maxAttempts, priority, enqueuedAt, keepsResult, signal } = job;
    try {
      this.#send({
        kind: "run",
        job: { id, queue, payload, attempt, maxAttempts, priority, enqueuedAt, keepsResult },
      });
    } catch (cause) {
      const why = `job ${id} of ${queue}: its payload cannot be passed to a thread: ${messageOf(cause)}`;
      throw new UnrecoverableError(why, { cause });
    }
    const abort = (): void => this.#send({ kind: "abort", reason: toThrown(signal.reason) });
    this.#current = { job, abort, resolve, reject, hasBegun: false };
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
    this.#messages.close();
    this.#answers.close();
    this.#loaded.reject(reason);
    this.#leave()?.reject(reason);
  }

  #crash(error: unknown): void {
    if (this.#isOver) return;
    const current = this.#current;
    const isIdle = this.#isLoaded && current?.hasBegun !== true;
    if (isIdle) this.#leave()?.reject(new NotBegunError("the thread has ended before it came to the job"));
    this.terminate(error);
    if (isIdle) this.#listener.crashed(error);
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
      case "begun":
        if (this.#current !== undefined) this.#current.hasBegun = true;
        break;
      case "call":
        void this.#answer(message.call);
        break;
      case "returned":
        this.#leave()?.resolve(message.value === undefined ? undefined : JSON.parse(message.value));
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

  /** The thread waits meanwhile, and nobody else. */
  async #answer(call: Call): Promise<void> {
    let answer: Answer = {};
    try {
      if (this.#current === undefined) throw new Error("the handler has ended");
      await this.#current.job.perform(toJobCall(call));
    } catch (error) {
      answer = { error: toThrown(error) };
    }
    if (this.#isOver) return;
    this.#answers.postMessage(answer);
    Atomics.store(this.#isAnswered, 0, 1);
    Atomics.notify(this.#isAnswered, 0);
  }

  #send(message: ToThread): void {
    this.#messages.postMessage(message);
  }
}

function toJobCall(call: Call): JobCall {
  const parse = (text: string | undefined): unknown => (text === undefined ? undefined : JSON.parse(text));
  switch (call.method) {
    case "ack":
      return { ...call, result: parse(call.result) };
    case "progress":
      return { ...call, value: parse(call.value) };
    case "retry":
      return { ...call, error: call.error === undefined ? undefined : toError(call.error) };
    case "fail":
      return { ...call, error: toError(call.error) };
    default:
      return call;
  }
}

/** Of what the methods of a job throw, or its signal aborts with. */
function toThrown(error: unknown): Thrown {
  const { name, code } =
    error instanceof Error
      ? (error as Error & { readonly code?: unknown })
      : { name: "Error", code: undefined };
  return {
    name: String(name),
    message: messageOf(error),
    stack: stackOf(error) ?? undefined,
    code: typeof code === "string" ? code : undefined,
    cause: undefined,
  };
}

function toError(thrown: Thrown): unknown {
  if ("value" in thrown) return thrown.value;
  const { name, message, stack, code } = thrown;
  const options = thrown.cause === undefined ? undefined : { cause: toError(thrown.cause) };
  const error =
    code === "HONKBUN_UNRECOVERABLE"
      ? new UnrecoverableError(message, options)
      : Object.assign(new Error(message, options), { name }, code === undefined ? {} : { code });
  return stack === undefined ? error : Object.assign(error, { stack });
}
