import type { Connection } from "./connection.ts";
import type { WriteGroup } from "./write-group.ts";

/** Milliseconds between two looks. */
const PAUSE = 250;

/**
 * Keeps SQLite from planning our statements by what ANALYZE, or PRAGMA optimize, has found in our tables. Queues are empty at
 * one moment and long at the next; by the statistics of the first, claims and streams would read whole tables.
 */
export class Statistics {
  readonly #connection: () => Connection;
  readonly #loops: WriteGroup;
  #notBefore = Number.NEGATIVE_INFINITY;
  #isForgetting = false;

  /** `connection` is asked for them. */
  constructor(connection: () => Connection, loops: WriteGroup) {
    this.#connection = connection;
    this.#loops = loops;
  }

  /** Looks for statistics of our tables, now and then, and has them deleted. Called after commits, of whatever process. */
  check(now: number): void {
    if (now < this.#notBefore || this.#isForgetting) return;
    this.#notBefore = now + PAUSE;
    try {
      if (tablesWithOurs(this.#connection()).length === 0) return;
    } catch {
      return; // the commit that we come after is not to fail for this; the next one asks again
    }
    this.#isForgetting = true;
    void this.#loops
      .write(forget)
      .catch(() => {}) // the same
      .finally(() => {
        this.#isForgetting = false;
      });
  }
}

/** Where SQLite keeps them; the second by builds of other programs alone. Each is there once something was analyzed. */
const TABLES = ["sqlite_stat1", "sqlite_stat4"] as const;
const OURS = "(lower(tbl) GLOB '_honker_*' OR lower(tbl) GLOB '_honkbun_*')";

function prepareStatisticsStatements(connection: Connection) {
  const ours = (table: string) => connection.prepare(`SELECT 1 FROM ${table} WHERE ${OURS} LIMIT 1`);
  return {
    tables: connection.prepare<{ name: (typeof TABLES)[number] }>(
      `SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('${TABLES.join("', '")}')`,
    ),
    ours: { sqlite_stat1: ours("sqlite_stat1"), sqlite_stat4: ours("sqlite_stat4") },
  };
}

function tablesWithOurs(connection: Connection): string[] {
  const { tables, ours } = connection.use(prepareStatisticsStatements);
  return tables
    .all()
    .map(({ name }) => name)
    .filter((name) => ours[name].get() !== null);
}

function forget(connection: Connection): void {
  const tables = tablesWithOurs(connection);
  if (tables.length === 0) return;
  for (const name of tables) connection.execute(`DELETE FROM ${name} WHERE ${OURS}`);
  // Has this connection read them anew; and the others too, because the schema has changed.
  connection.execute("ANALYZE main.sqlite_schema");
  connection.execute("CREATE TABLE _honkbun_statistics (x); DROP TABLE _honkbun_statistics");
}
