// Works on the queue "q", listens on "c" and consumes the stream "s", and says how much comes. Argument: path.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const db = open(process.argv[2] ?? "", { wake: { safetyInterval: false } });
db.queue<string, string>("q", { keepResult: true, maxAttempts: 1 }).work(({ payload }) => {
  if (payload.startsWith("fail")) throw new Error(payload);
  return payload;
});
db.listen<string>("c", ({ payload }) => say({ heard: payload.length }));
say("running");
for await (const { payload } of db.stream<string>("s").subscribe({ consumer: "consumer" }))
  say({ consumed: payload.length });
