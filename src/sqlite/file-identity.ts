import { fstatSync, readdirSync, readlinkSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";

import { FileReplacedError } from "../errors.ts";

const DESCRIPTORS = "/proc/self/fd";
/** Bytes at the beginning of the WAL's index without which SQLite takes it for none. */
const INDEX_HEADER = 136;

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

  /**
   * Has SQLite read the WAL anew before it does anything more, where its index was removed: by the old index the last connection
   * to close, at the latest when the process ends, would write over what others have written meanwhile. Known on Linux only.
   */
  forgetIndex(): void {
    try {
      for (const descriptor of readdirSync(DESCRIPTORS)) {
        const link = join(DESCRIPTORS, descriptor);
        if (targetOf(link) !== `${this.#path}-shm (deleted)`) continue;
        const index = Number(descriptor); // SQLite's own: to close another of the file would drop its locks
        const { ino, dev, nlink } = fstatSync(index);
        if (nlink === 0 && ino === this.#index?.ino && dev === this.#index.dev) {
          writeSync(index, Buffer.alloc(INDEX_HEADER), 0, INDEX_HEADER, 0);
        }
      }
    } catch {
      // Whatever is the matter with the file has been told.
    }
  }
}

function targetOf(link: string): string | null {
  try {
    return readlinkSync(link);
  } catch {
    return null; // the one that lists them
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
