// Uses up its descriptors, does what it is told to, and gives them back. Argument: path.
import { closeSync, openSync, statSync } from "node:fs";

import { open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

const path = process.argv[2] ?? "";
const db = open(path, { wake: { safetyInterval: false } });
const errors: string[] = [];
db.on("error", ({ error, where }) => void errors.push(`${where}: ${(error as Error).message}`));
const queue = db.queue<string | number>("q", { keepResult: true, backoff: { base: 50 } });
const heard: unknown[] = [];
const taken: number[] = [];
const results: unknown[] = [];

type Message = "exhaust" | "listen" | "write" | "work" | "open" | "free" | "report";

const DO: Readonly<Record<Message, () => unknown>> = {
  exhaust: () => {
    try {
      for (;;) taken.push(openSync("/dev/null", "r"));
    } catch (error) {
      return (error as { readonly code?: string }).code;
    }
  },
  listen: () => void db.listen("c", ({ payload }) => void heard.push(payload)),
  // More than the log is to have before it is checkpointed.
  write: async () => {
    for (let n = 0; n < 100; n++) {
      await queue.enqueueAsync("x".repeat(100_000), { delay: "1h" });
    }
  },
  work: () => {
    queue.work(new URL("../handlers/echo.ts", import.meta.url));
    void queue.waitResult(queue.enqueue(1)).then((result) => void results.push(result));
  },
  open: () => {
    try {
      open(path).close();
      return null;
    } catch (error) {
      return (error as { readonly code?: string }).code;
    }
  },
  free: () => {
    for (const descriptor of taken.splice(0)) closeSync(descriptor);
  },
  report: () => ({ mode: db.stats().wake.mode, heard, results, errors, size: statSync(path).size }),
};

say("running");
await answer((message: Message) => DO[message]());
