// Opens the file that it is told, once, as a user whom permissions bind, and prints the error, or null.
import { open } from "../../../src/index.ts";
import { dropPrivileges } from "../unprivileged.ts";
import { say } from "./channel.ts";

// Only now, with everything loaded: the sources and bun itself may lie where nobody else can read.
dropPrivileges();

try {
  open(process.argv[2] ?? "").close();
  say(null);
} catch (error) {
  const { name, message, code, path } = error as Error & { code?: unknown; path?: unknown };
  say({ name, message, code, path });
}
