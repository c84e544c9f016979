// Another process that uses honkbun. Arguments: path, synchronous.
import { open } from "../../../src/index.ts";
import { answer } from "./channel.ts";

const [path = "", synchronous = "normal"] = process.argv.slice(2);
const db = open(path, { synchronous: synchronous as "normal" | "full" });

type Message =
  | { readonly notify: string; readonly size?: number }
  | { readonly enqueue: string; readonly payload: unknown }
  /** Sends, and rolls back. */
  | { readonly rollBack: string };

await answer((message: Message) => {
  if ("notify" in message) return db.notify(message.notify, "x".repeat(message.size ?? 0));
  if ("enqueue" in message) return db.queue(message.enqueue).enqueue(message.payload);
  try {
    db.transaction(() => {
      db.notify(message.rollBack);
      db.queue(message.rollBack).enqueue(null);
      throw new Error("rolled back");
    });
  } catch {}
  return null;
});
