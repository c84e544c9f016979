import type { MessagePort } from "node:worker_threads";

/** Something that was thrown: an error by its parts, of which a structured clone loses some; anything else as it is. */
export type Thrown = ThrownError | { readonly value: unknown };

export interface ThrownError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: unknown;
  readonly cause: Thrown | undefined;
}

/** What a handler in a thread is told of its job. */
export interface JobFields {
  readonly id: number;
  readonly queue: string;
  readonly payload: unknown;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  readonly enqueuedAt: Date;
}

/** A method of the job that the handler has called, and waits for. */
export type Call =
  | { readonly method: "ack"; readonly result: unknown }
  | { readonly method: "retry"; readonly delay: unknown; readonly error: Thrown | undefined }
  | { readonly method: "fail"; readonly error: Thrown }
  | { readonly method: "snooze"; readonly delay: unknown }
  | { readonly method: "heartbeat"; readonly extend: unknown }
  | { readonly method: "progress"; readonly value: unknown };

export type ToThread =
  | {
      readonly kind: "load";
      readonly module: string;
      /** Where the answers to calls arrive, and a number that is 1 when one has: the handler blocks until then. */
      readonly answers: MessagePort;
      readonly isAnswered: Int32Array;
    }
  | { readonly kind: "run"; readonly job: JobFields }
  | { readonly kind: "abort"; readonly reason: Thrown };

export type FromThread =
  | { readonly kind: "loaded" }
  | { readonly kind: "unloadable"; readonly error: Thrown }
  | ({ readonly kind: "call" } & Call)
  | { readonly kind: "returned"; readonly value: unknown }
  | { readonly kind: "threw"; readonly error: Thrown }
  /** By something that the handler has left behind. */
  | { readonly kind: "crashed"; readonly error: Thrown };

export interface Answer {
  /** What the call throws. */
  readonly error?: Thrown;
}
