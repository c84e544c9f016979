// Opens the file that it is told, once, and prints the error, or null.
import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

try {
  open(process.argv[2] ?? "").close();
  say(null);
} catch (error) {
  const { name, message, code, path } = error as Error & { code?: unknown; path?: unknown };
  say({ name, message, code, path });
}
