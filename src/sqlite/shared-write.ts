import type { Connection } from "./connection.ts";
import type { WriteGroup } from "./write-group.ts";

interface Batch<I, R> {
  readonly items: I[];
  /** Null when they cannot be written together. */
  readonly written: Promise<readonly R[] | null>;
}

/** Writes what comes in one tick by one call, in one transaction of the loops. */
export class SharedWrite<I, R> {
  readonly #group: WriteGroup;
  readonly #write: (connection: Connection, items: readonly I[]) => readonly R[];
  #batch: Batch<I, R> | undefined;

  /** `write` returns what it has made of each item, in order. */
  constructor(group: WriteGroup, write: (connection: Connection, items: readonly I[]) => readonly R[]) {
    this.#group = group;
    this.#write = write;
  }

  /** Resolves once the item is committed. */
  async add(item: I): Promise<R> {
    this.#batch ??= this.#begin();
    const { items, written } = this.#batch;
    const index = items.push(item) - 1;
    const results = await written;
    if (results !== null) return results[index] as R;
    // Each by itself, so that none fails but those that cannot be written.
    const [result] = await this.#group.write((connection) => this.#write(connection, [item]));
    return result as R;
  }

  #begin(): Batch<I, R> {
    const items: I[] = [];
    // What comes once it has begun, or failed to, is for the next transaction.
    const close = (): void => {
      if (this.#batch === batch) this.#batch = undefined;
    };
    const written = this.#group
      .write((connection) => {
        close();
        return this.#write(connection, items);
      })
      .catch(() => {
        close();
        return null;
      });
    const batch = { items, written };
    return batch;
  }
}
