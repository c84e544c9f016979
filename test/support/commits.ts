import { Database } from "bun:sqlite";

/** Counts the transactions that are committed by COMMIT, on whatever connection of this process, from now until disposed. */
export class Commits implements Disposable {
  count = 0;
  readonly #prepare = Database.prototype.prepare;

  /** Only connections count that are opened after this. */
  constructor() {
    const prepare = this.#prepare;
    const counted = (): void => void this.count++;
    Database.prototype.prepare = function (this: Database, sql: string, ...rest: []) {
      const statement = prepare.call(this, sql, ...rest);
      if (sql !== "COMMIT") return statement;
      const { run } = statement;
      statement.run = (...params) => {
        counted();
        return run.apply(statement, params);
      };
      return statement;
    } as typeof prepare;
  }

  [Symbol.dispose](): void {
    Database.prototype.prepare = this.#prepare;
  }
}
