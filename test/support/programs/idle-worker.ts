// An idle claim loop and a listener, beside which a timer says how far the event loop drifts. Argument: path.
import { open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

const db = open(process.argv[2] ?? "");
const queue = db.queue<number>("q");
db.listen("c", () => {});
void (async () => {
  for await (const job of queue.claim()) say({ claimed: job.payload });
})();

const PERIOD = 5;
let drifts: number[] = [];
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  drifts.push(now - last - PERIOD);
  last = now;
}, PERIOD);

await answer(() => {
  const result = drifts;
  drifts = [];
  return { drifts: result };
});
