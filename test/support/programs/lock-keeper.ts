// Takes a lock, tells its token, and holds it until it is killed; with "idle" it has nothing else to do and ends. Arguments:
// path, name, "idle" or nothing. With "try" it takes the lock by tryLock.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", name = "", how] = process.argv.slice(2);
const db = open(path, { wake: { safetyInterval: false, mode: "watch" } });
const options = { ttl: "1h" } as const;
const lock = how === "try" ? db.tryLock(name, options) : await db.lock(name, options);
say(lock?.token);
if (how !== "idle") setInterval(() => {}, 1_000);
