// A listener on a system whose watches are silent, refused, or break after the first event. Arguments: path, how.
import { EventEmitter } from "node:events";
import fs from "node:fs";

import { say } from "./channel.ts";

const [path = "", how] = process.argv.slice(2);
let watches = 0;
fs.watch = ((_path: string, _options: unknown, listener: (type: string) => void) => {
  if (how === "refused" || watches++ > 0) throw new Error("ENOSPC: no watch left");
  const watcher = Object.assign(new EventEmitter(), { close() {} });
  if (how === "lost") {
    setImmediate(() => {
      listener("change");
      say("an event came");
      watcher.emit("error", new Error("the watch broke"));
    });
  }
  return watcher;
}) as unknown as typeof fs.watch;

const { open } = await import("../../../src/index.ts");
const db = open(path, { wake: { safetyInterval: false } });
db.listen("c", () => {
  const { mode, events } = db.stats().wake;
  say({ mode, events });
});
say("listening");
