import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Those that are there still. */
const folders = new Set<TestFolder>();

/** A temporary folder with a database file in it. One that is not removed goes when the process ends. */
export class TestFolder {
  readonly file: string;
  readonly #path: string = mkdtempSync(join(tmpdir(), "honkbun-"));

  constructor() {
    this.file = join(this.#path, "test.db");
    if (folders.size === 0) process.once("exit", removeAll);
    folders.add(this);
  }

  remove(): void {
    folders.delete(this);
    if (folders.size === 0) process.off("exit", removeAll);
    rmSync(this.#path, { recursive: true, force: true });
  }
}

function removeAll(): void {
  for (const folder of [...folders]) folder.remove();
}
