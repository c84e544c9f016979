// Opens the file that it is told, once, as a user whom permissions bind, and prints the error, or null.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const NOBODY = 65_534;

// Only now, with everything loaded: the sources and bun itself may lie where nobody else can read.
if (process.getuid?.() === 0) {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
  if (process.getuid() === 0) throw new Error("still root, whom permissions don't bind");
}

try {
  open(process.argv[2] ?? "").close();
  say(null);
} catch (error) {
  const { name, message, code, path } = error as Error & { code?: unknown; path?: unknown };
  say({ name, message, code, path });
}
