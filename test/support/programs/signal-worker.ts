// Works on the queue "q" until a signal stops it; a handler ends when it is told to. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const finish = Promise.withResolvers<void>();
const worker = db.queue("q").work(
  async () => {
    say("running");
    await finish.promise;
  },
  { signals: true },
);
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => say("told"));
const messages = console[Symbol.asyncIterator]();
void messages.next().then(() => finish.resolve());
await worker.stopped;
say("stopped");
await db.shutdown();
process.stdin.unref();
