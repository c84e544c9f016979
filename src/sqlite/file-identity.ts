import { statSync } from "node:fs";

import { FileReplacedError } from "../errors.ts";

interface Identity {
  readonly ino: number;
  readonly dev: number;
}

/** Notices that the database or its WAL is no longer the file that our connections have open. */
export class FileIdentity {
  readonly #path: string;
  readonly #database: Identity | null | undefined;
  #wal: Identity | null | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#database = identify(path);
    this.#wal = identify(`${path}-wal`);
  }

  /** Costs two `stat`s, a microsecond. They open nothing: to close a descriptor of the file would drop SQLite's locks. */
  check(): FileReplacedError | null {
    if (!isSame(this.#database, identify(this.#path))) {
      return new FileReplacedError(this.#path, `the database file ${this.#path} was replaced or removed`);
    }
    const wal = identify(`${this.#path}-wal`);
    this.#wal ??= wal;
    // While we are connected nobody but us or a bystander's `rm` can take the WAL away.
    if (!isSame(this.#wal, wal)) {
      return new FileReplacedError(this.#path, `the WAL ${this.#path}-wal was replaced or removed`);
    }
    return null;
  }
}

/** Null for a file that is gone, undefined where that cannot be told. */
function identify(path: string): Identity | null | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false }) ?? null;
  } catch {
    return undefined; // such as a folder that may no longer be searched; our connections go on
  }
}

function isSame(known: Identity | null | undefined, found: Identity | null | undefined): boolean {
  if (known === undefined || found === undefined) return true;
  return known?.ino === found?.ino && known?.dev === found?.dev;
}
