import { Database } from "bun:sqlite";
import { threadId } from "node:worker_threads";

import { type Job, open, UnrecoverableError } from "../../../src/index.ts";

/** What the handler is to do, in order; the result is what the last step gives. */
export type Step =
  | { readonly do: "return"; readonly value?: unknown }
  | { readonly do: "thread" | "loop" | "hang" | "heartbeat" | "function" | "cycle" }
  | { readonly do: "fields" | "late" | "twice" | "settled" }
  | { readonly do: "throw"; readonly what: "plain" | "unrecoverable" | "text" | "caused" }
  | { readonly do: "exit"; readonly code: number }
  | { readonly do: "block"; readonly ms: number }
  | { readonly do: "block until"; readonly file: string; readonly begun: string }
  | { readonly do: "lock"; readonly file: string; readonly ms: number }
  | { readonly do: "stray"; readonly what: "throw" | "reject" | "exit"; readonly after: number }
  | { readonly do: "until aborted" }
  | { readonly do: "progress"; readonly value: unknown }
  | { readonly do: "ack" | "snooze" | "retry" | "fail" | "tx"; readonly value?: unknown }
  | { readonly do: "claim"; readonly file: string; readonly queue: string };

let before: Job<Step[]> | undefined;

export default async function scripted(job: Job<Step[]>): Promise<unknown> {
  let result: unknown;
  for (const step of job.payload) result = await perform(job, step);
  before = job;
  return result;
}

async function perform(job: Job<Step[]>, step: Step): Promise<unknown> {
  switch (step.do) {
    case "return":
      return step.value;
    case "thread":
      return threadId;
    case "loop":
      for (;;);
    case "hang":
      return new Promise(() => {});
    case "heartbeat":
      return job.heartbeat("2h");
    case "cycle": {
      const cycle: { self?: unknown } = {};
      cycle.self = cycle;
      return job.progress(cycle);
    }
    case "block":
      return Bun.sleepSync(step.ms);
    case "block until":
      Bun.spawnSync(["sh", "-c", '> "$1"; while [ ! -e "$0" ]; do sleep 0.05; done', step.file, step.begun]);
      break;
    case "lock": {
      using db = new Database(step.file);
      db.run("BEGIN IMMEDIATE");
      job.signal.throwIfAborted();
      new BroadcastChannel("lock").postMessage("held");
      await Bun.sleep(step.ms);
      db.run("ROLLBACK");
      break;
    }
    case "function":
      return () => 1;
    case "settled":
      return job.settled;
    case "twice": {
      job.snooze("1h");
      const channel = new BroadcastChannel("twice");
      try {
        job.ack();
      } catch (error) {
        const { name, code, message } = error as Error & { readonly code: string };
        channel.postMessage([job.settled, name, code, message]);
      }
      channel.close();
      break;
    }
    case "fields": {
      const { id, queue, attempt, maxAttempts, priority, enqueuedAt, settled } = job;
      return { id, queue, attempt, maxAttempts, priority, enqueuedAt, settled, aborted: job.signal.aborted };
    }
    case "late":
      try {
        before?.progress(1);
        return "nothing thrown";
      } catch (error) {
        return [(error as Error).name, (error as { code?: string }).code];
      }
    case "throw":
      if (step.what === "unrecoverable") throw new UnrecoverableError("never again");
      if (step.what === "text") throw "just text";
      if (step.what === "caused")
        throw new RangeError("out of it", { cause: Object.assign(new Error("deep"), { code: "E_DEEP" }) });
      throw new TypeError("in the thread");
    case "exit":
      process.exit(step.code);
      break;
    case "stray":
      setTimeout(() => {
        if (step.what === "exit") process.exit(1);
        if (step.what === "throw") throw new TypeError("a stray error");
        void Promise.reject(new TypeError("a stray rejection"));
      }, step.after);
      return undefined;
    case "until aborted":
      await new Promise<void>((resolve) => job.signal.addEventListener("abort", () => resolve()));
      throw job.signal.reason;
    case "progress":
      return job.progress(step.value);
    case "ack":
      return job.ack({ result: step.value });
    case "snooze":
      return job.snooze("1h");
    case "retry":
      return job.retry({ delay: "1h", error: new TypeError("not now") });
    case "fail":
      return job.fail(new TypeError("not ever"));
    case "tx":
      return job.ack({ tx: open(":memory:").sqlite });
    case "claim": {
      const db = open(step.file);
      const [claimed] = db.queue(step.queue).claimBatch(1, { visibilityTimeout: "1h" });
      return claimed?.id;
    }
    default:
      return step satisfies never;
  }
}
