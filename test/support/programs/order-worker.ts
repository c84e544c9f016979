// Claims the jobs of orders and says what it finds of the order. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const jobs = db.queue<{ order: number }>("emails").claim();
let next = jobs.next();
say("waiting");
for (;;) {
  const { value: job } = await next;
  const { order } = job.payload;
  const row = db.sqlite.query<{ note: string }, [number]>("SELECT note FROM orders WHERE id = ?").get(order);
  say({ order, note: row?.note });
  job.ack();
  next = jobs.next();
}
