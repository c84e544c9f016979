import type { Changes, Database, SQLQueryBindings } from "bun:sqlite";

type Bindings = SQLQueryBindings[];

/** A named, typed statement of one connection. Parameters are positional (`?1`), so that `strict` handles take them too. */
export interface Statement<Row = never, Params extends Bindings = Bindings> {
  run(...params: Params): Changes;
  get(...params: Params): Row | null;
  all(...params: Params): Row[];
}

/** A `bun:sqlite` handle and the statements that modules hold on it. */
export class Connection {
  readonly handle: Database;
  readonly #owned: boolean;
  readonly #prepared = new Map<(connection: Connection) => unknown, unknown>();

  /** `owned`: opened by us. On other handles nothing is kept prepared: that would leak their descriptors after `close()`. */
  constructor(handle: Database, owned: boolean) {
    this.handle = handle;
    this.#owned = owned;
  }

  /** The statements of one module, prepared once for this connection. */
  use<Statements>(prepare: (connection: Connection) => Statements): Statements {
    let statements = this.#prepared.get(prepare) as Statements | undefined;
    if (statements === undefined) {
      statements = prepare(this);
      this.#prepared.set(prepare, statements);
    }
    return statements;
  }

  prepare<Row = never, Params extends Bindings = Bindings>(sql: string): Statement<Row, Params> {
    const text = compiledOnce(sql);
    return this.#owned ? new HeldStatement(this.handle, text) : new BorrowedStatement(this.handle, text);
  }

  /** Runs text of any number of statements, for what runs once. */
  execute(sql: string): void {
    this.handle.run(sql);
  }
}

/**
 * Writes every parameter as `+?1`. A query with an ORDER BY that compares a column with a bare parameter is compiled anew
 * by SQLite (3.54) on each binding, in case the value suggests another plan: that takes ten times as long as a seek.
 */
function compiledOnce(sql: string): string {
  return sql.replace(/\?\d+/g, "+$&");
}

/** Compiled at first use and held: `Database.query()` caches only the last twenty. */
class HeldStatement<Row, Params extends Bindings> implements Statement<Row, Params> {
  readonly #handle: Database;
  readonly #sql: string;
  #native: Statement<Row, Params> | undefined;

  constructor(handle: Database, sql: string) {
    this.#handle = handle;
    this.#sql = sql;
  }

  run(...params: Params): Changes {
    return (this.#native ?? this.#compile()).run(...params);
  }
  get(...params: Params): Row | null {
    return (this.#native ?? this.#compile()).get(...params);
  }
  all(...params: Params): Row[] {
    return (this.#native ?? this.#compile()).all(...params);
  }

  #compile(): Statement<Row, Params> {
    const native = this.#handle.prepare(this.#sql) as Statement<Row, Params>;
    this.#native = native;
    return native;
  }
}

/** A statement on somebody else's handle: cached and freed by that handle, and blind to its `safeIntegers`. */
class BorrowedStatement<Row, Params extends Bindings> implements Statement<Row, Params> {
  readonly #handle: Database;
  readonly #sql: string;

  constructor(handle: Database, sql: string) {
    this.#handle = handle;
    this.#sql = sql;
  }

  run(...params: Params): Changes {
    return this.#native().run(...params);
  }
  get(...params: Params): Row | null {
    return this.#native().get(...params);
  }
  all(...params: Params): Row[] {
    return this.#native().all(...params);
  }

  #native(): Statement<Row, Params> {
    return this.#handle.query(this.#sql).safeIntegers(false) as Statement<Row, Params>;
  }
}
