// What somebody works on under `bun --hot` or `bun --watch`. Each time that it begins it tells so, and then what it runs.
// Environment: FILE.
import { open } from "../../../../src/index.ts";

const counts = globalThis as { generation?: number };
counts.generation = (counts.generation ?? 0) + 1;
const version = "0";
const db = open(Bun.env.FILE ?? "", { wake: { safetyInterval: false, mode: "watch" } });
const say = (message: object): void => console.log(JSON.stringify({ version, ...message }));
db.queue<number>("q").work(({ payload }) => say({ ran: payload }));
db.listen<number>("channel", ({ payload }) => say({ heard: payload }));
db.scheduler.add("s", { every: "1d", queue: "never" });
db.scheduler.start();
const lock = await db.lock("l", { ttl: "1h" });
say({ begins: counts.generation, token: lock.token });
