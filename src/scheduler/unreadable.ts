/**
 * Schedules that cannot be read here: written by another version, or of a zone that this machine does not know. They are left alone
 * until they are written anew, and stop none of the others.
 */
export class Unreadable {
  readonly #report: (name: string, error: unknown) => void;
  /** What each went by when it could not be read. */
  readonly #definitions = new Map<string, string>();

  /** `report` is called once for each, until it is mended. */
  constructor(report: (name: string, error: unknown) => void) {
    this.#report = report;
  }

  /** Null when it cannot be read. */
  tryRead<T>(name: string, definition: string, read: () => T): T | null {
    try {
      return read();
    } catch (error) {
      if (this.#definitions.get(name) !== definition) this.#report(name, error);
      this.#definitions.set(name, definition);
      return null;
    }
  }

  /** Their names, as a JSON array. */
  get names(): string {
    return this.#definitions.size === 0 ? "[]" : JSON.stringify([...this.#definitions.keys()]);
  }

  /** Forgets those that go by something else now; `definitionOf` is undefined for one that is gone. */
  forgetMended(definitionOf: (name: string) => string | undefined): void {
    for (const [name, definition] of this.#definitions) {
      if (definitionOf(name) !== definition) this.#definitions.delete(name);
    }
  }
}
