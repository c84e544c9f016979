import { statSync } from "node:fs";

import { FileReplacedError } from "../errors.ts";

interface Identity {
  readonly ino: number;
  readonly dev: number;
}

/** Notices that the database or its WAL is no longer the file that our connections have open. */
export class FileIdentity {
  readonly #path: string;
  readonly #database: Identity | undefined;
  #wal: Identity | undefined;

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

function identify(path: string): Identity | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function isSame(known: Identity | undefined, found: Identity | undefined): boolean {
  return known?.ino === found?.ino && known?.dev === found?.dev;
}
