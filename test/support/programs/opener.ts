// Opens and closes files as it is told: by path, or through a handle of its own. Answers with the error, or null.
import { Database } from "bun:sqlite";

import { open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

interface Request {
  readonly path: string;
  readonly throughHandle: boolean;
}

say("ready");
await answer(({ path, throughHandle }: Request) => {
  try {
    const handle = throughHandle ? new Database(path) : undefined;
    try {
      open(handle ?? path).close();
    } finally {
      handle?.close();
    }
    return null;
  } catch (error) {
    const { name, message, code, stack } = error as Error & { code?: unknown };
    return { name, message, code, stack };
  }
});
