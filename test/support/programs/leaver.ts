// Stores jobs, tries to store another one, closes or ends. Argument: path.
import { open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

const db = open(process.argv[2] ?? "");
const queue = db.queue("q");
queue.enqueueMany(Array.from({ length: 200 }, (_, n) => ({ n, text: "x".repeat(300) })));
say("ready");
await answer((message: "enqueue" | "close" | "exit") => {
  if (message === "exit") process.exit(0);
  if (message === "close") return db.close();
  try {
    return queue.enqueue(1);
  } catch (error) {
    return (error as { readonly code?: string }).code;
  }
});
