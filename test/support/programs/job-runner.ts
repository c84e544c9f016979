// Does with jobs of the queue "q" what it is told. Argument: path.
import { type Job, open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const queue = db.queue("q");
let job: Job<unknown> | undefined;

type Message =
  | { readonly enqueue: unknown }
  | { readonly claim: true }
  | { readonly progress: unknown }
  | { readonly ack: true }
  | { readonly fail: string }
  | { readonly cancel: number }
  | { readonly call: "pause" | "resume" };

say("ready");
await answer((message: Message) => {
  if ("enqueue" in message) return queue.enqueue(message.enqueue);
  if ("claim" in message) {
    job = queue.claimBatch(1)[0];
    return job?.id;
  }
  if ("progress" in message) return job?.progress(message.progress);
  if ("ack" in message) return job?.ack();
  if ("fail" in message) return job?.fail(message.fail);
  if ("cancel" in message) return queue.cancel(message.cancel);
  return queue[message.call]();
});
