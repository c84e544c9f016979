// Opens a file on a disk that is read-only and writable again, and has a job from before run. Argument: the disk's folder.
import { join } from "node:path";

import { open } from "../../../src/index.ts";
import { eventually } from "../eventually.ts";
import { say } from "./channel.ts";

const folder = process.argv[2] ?? "";
const file = join(folder, "app.db");

/** Returns what is wrong. */
function remount(mode: "ro" | "rw"): string {
  return Bun.spawnSync(["mount", "-o", `remount,${mode}`, folder]).stderr.toString();
}

const before = open(file);
before.queue("q").enqueue("before");
const busy = remount("ro");
before.close();

if (remount("ro") !== "") throw new Error("the disk is in use");
let refused: unknown;
try {
  open(file);
} catch (error) {
  refused = (error as { readonly code?: string }).code;
}

if (remount("rw") !== "") throw new Error("the disk stays read-only");
await using db = open(file, { wake: { safetyInterval: false } });
const ran: unknown[] = [];
await using _ = db.queue("q").work(({ payload }) => void ran.push(payload));
db.queue("q").enqueue("after");
await eventually(() => ran.length === 2, "both are run");
say({ refused, busy, ran });
