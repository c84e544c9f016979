import { resolve } from "node:path";

import { within } from "./eventually.ts";

const PROGRAMS = resolve(import.meta.dir, "programs");

/** A program that is started by another, such as `unshare`. */
export interface Launch {
  readonly under: readonly string[];
  readonly name: string;
}

/** Another process, which runs a program of `test/support/programs` and talks in lines of JSON. */
export class Process implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<unknown>;

  constructor(program: string | Launch, ...args: (string | number)[]) {
    const { under, name } = typeof program === "string" ? { under: [], name: program } : program;
    this.#child = Bun.spawn(
      [...under, process.execPath, resolve(PROGRAMS, `${name}.ts`), ...args.map(String)],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    this.#lines = readLines(this.#child.stdout);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  /** Resolves with the next line that it prints. */
  async read<T = unknown>(): Promise<T> {
    const { done, value } = await within(this.#lines.next(), "a line of another process");
    if (done) throw new Error(`the process ended with code ${await this.#child.exited}`);
    return value as T;
  }

  /** The same whenever it comes; undefined at the end. */
  async next<T = unknown>(): Promise<T | undefined> {
    const { done, value } = await this.#lines.next();
    return done ? undefined : (value as T);
  }

  write(message: unknown): void {
    this.#child.stdin.write(`${JSON.stringify(message)}\n`);
    this.#child.stdin.flush();
  }

  /** Sends a message and resolves with the line that answers it. */
  ask<T = unknown>(message: unknown): Promise<T> {
    this.write(message);
    return this.read<T>();
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<unknown> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield JSON.parse(line);
  }
}
