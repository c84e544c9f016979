import type { MessagePort } from "node:worker_threads";

/** Something that was thrown: an error by its parts, of which a structured clone loses some; anything else as it is. */
export type Thrown = ThrownError | { readonly value: unknown };

export interface ThrownError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: string | number | undefined;
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
  /** If not, what the handler returns is of no interest. */
  readonly keepsResult: boolean;
}

/** A method of the job that the handler has called, and waits for. Results and progress are JSON text. */
export type Call =
  | { readonly method: "ack"; readonly result: string | undefined }
  | { readonly method: "retry"; readonly delay: unknown; readonly error: Thrown | undefined }
  | { readonly method: "fail"; readonly error: Thrown }
  | { readonly method: "snooze"; readonly delay: unknown }
  | { readonly method: "heartbeat"; readonly extend: unknown }
  | { readonly method: "progress"; readonly value: string | undefined };

/** The first message to a thread. All others go through these ports, of which the handler knows nothing. */
export interface Load {
  readonly module: string;
  readonly messages: MessagePort;
  /** Where the answers to calls arrive, and a number that is 1 when one has: the handler blocks until then. */
  readonly answers: MessagePort;
  readonly isAnswered: Int32Array;
}

export type ToThread =
  { readonly kind: "run"; readonly job: JobFields } | { readonly kind: "abort"; readonly reason: Thrown };

export type FromThread =
  | { readonly kind: "loaded" }
  | { readonly kind: "unloadable"; readonly error: Thrown }
  /** The handler is called: what ends the thread from here on ends the attempt. */
  | { readonly kind: "begun" }
  | { readonly kind: "call"; readonly call: Call }
  /** JSON text. */
  | { readonly kind: "returned"; readonly value: string | undefined }
  | { readonly kind: "threw"; readonly error: Thrown }
  /** By something that a handler, or the module, has left behind. */
  | { readonly kind: "crashed"; readonly error: Thrown };

export interface Answer {
  /** What the call throws. */
  readonly error?: Thrown;
}
