import { Database } from "bun:sqlite";

import { type Honkbun, open } from "../../src/index.ts";
import { Folder } from "./folder.ts";
import { Honker } from "./honker.ts";

/** One file, as two handles of ours, honker and a bystander have it, by a clock that only the test moves. */
export interface TwoHandles {
  readonly databases: readonly Honkbun[];
  readonly honker: Honker;
  readonly reader: Database;
  readonly close: () => void;
}

export function openTwice(clock: () => number): TwoHandles {
  const folder = new Folder();
  const databases = [0, 1].map(() => open(folder.file(), { clock, wake: { safetyInterval: false } }));
  const honker = new Honker(folder.file(), () => Math.floor(clock() / 1_000));
  const reader = new Database(folder.file());
  return {
    databases,
    honker,
    reader,
    close: () => {
      reader.close();
      honker[Symbol.dispose]();
      for (const db of databases) db.close();
      folder[Symbol.dispose]();
    },
  };
}
