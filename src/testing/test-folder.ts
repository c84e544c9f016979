import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PREFIX = "honkbun-testing-";
const NAME = new RegExp(`^${PREFIX}(\\d+)-`);
/** Milliseconds for which what a process has left is left: its id may mean nothing here, as in another container. */
const ABANDONED_AFTER = 3_600_000;

/** Those that are there still. */
const folders = new Set<TestFolder>();
let isSwept = false;

/**
 * A temporary folder with a database file in it. One that is not removed goes when the process ends; where that cannot be, because
 * `bun test` tells nobody of its end, some process removes it later.
 */
export class TestFolder {
  readonly file: string;
  readonly #path: string = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));

  constructor() {
    this.file = join(this.#path, "test.db");
    if (!isSwept) sweep();
    isSwept = true;
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

/** Removes what processes have left that are no more. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(NAME.exec(name)?.[1]);
    if (!(pid > 0) || isAlive(pid)) continue;
    const path = join(tmpdir(), name);
    try {
      if (Date.now() - statSync(path).mtimeMs > ABANDONED_AFTER)
        rmSync(path, { recursive: true, force: true });
    } catch {} // another process does the same, or it is another user's
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { readonly code?: unknown }).code !== "ESRCH";
  }
}
