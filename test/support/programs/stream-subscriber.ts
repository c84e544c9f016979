// Follows the topic "t" until it has seen so many events, and says how they came. Arguments: path, consumer, how many.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", consumer = "", count = "0"] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false } });
const source = db.stream<{ readonly name: string; readonly n: number }>("t").subscribe({ consumer });
say("attached");
const next = new Map<string, number>();
let [seen, last, isAscending, isEachInOrder] = [0, 0, true, true];
for await (const { offset, payload } of source) {
  if (offset <= last) isAscending = false;
  last = offset;
  if (payload.n !== (next.get(payload.name) ?? 0)) isEachInOrder = false;
  next.set(payload.name, payload.n + 1);
  if (++seen === Number(count)) break;
}
say({ count: seen, isAscending, isEachInOrder });
db.close();
