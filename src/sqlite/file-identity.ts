import { statSync } from "node:fs";

import { FileReplacedError } from "../errors.ts";

interface Identity {
  readonly ino: number;
  readonly dev: number;
  readonly size: number;
}

/** Notices that the database, its WAL or the WAL's index is no longer the file that our connections have open. */
export class FileIdentity {
  readonly #path: string;
  readonly #database: Identity | null | undefined;
  #wal: Identity | null | undefined;
  #index: Identity | null | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#database = identify(path);
    this.#wal = identify(`${path}-wal`);
    this.#index = identify(`${path}-shm`);
  }

  /** Costs three `stat`s, a microsecond or two. They open nothing: to close a descriptor of the file would drop SQLite's locks. */
  check(): FileReplacedError | null {
    const database = identify(this.#path);
    if (!isSame(this.#database, database)) {
      return new FileReplacedError(this.#path, `the database file ${this.#path} was replaced or removed`);
    }
    // Since it is in WAL mode its first page is in it, for ever.
    if (database?.size === 0 && this.#database?.size !== 0) {
      return new FileReplacedError(this.#path, `the database file ${this.#path} was emptied`);
    }
    const wal = identify(`${this.#path}-wal`);
    this.#wal ??= wal;
    // While we are connected nobody but us or a bystander's `rm` can take the WAL away.
    if (!isSame(this.#wal, wal)) {
      return new FileReplacedError(this.#path, `the WAL ${this.#path}-wal was replaced or removed`);
    }
    const index = identify(`${this.#path}-shm`);
    this.#index ??= index;
    // It has the locks: who opens the file now makes one of its own, and neither would see what the other writes.
    if (!isSame(this.#index, index)) {
      return new FileReplacedError(this.#path, `the WAL's index ${this.#path}-shm was replaced or removed`);
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
