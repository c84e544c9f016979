import { show } from "../duration.ts";
import type { Connection, Statement } from "../sqlite/connection.ts";

/** A table whose changes can be captured. */
export interface Table {
  /** As it is written in the schema. */
  readonly name: string;
  readonly columns: readonly string[];
  /** One of them that is not generated. */
  readonly writable: string;
  /** The columns of its primary key, or a name for the row id. */
  readonly key: readonly string[];
}

/** @throws TypeError for what triggers cannot be put on, and for tables that are honkbun's own */
export function findTable(connection: Connection, name: string, call: string): Table {
  const { table, columns } = connection.use(prepareTableStatements);
  const found = table.get(name);
  if (found === null) throw new TypeError(`${call}: there is no table ${show(name)} in the file`);
  if (/^(sqlite_|_honker_|_honkbun_)/.test(found.name)) {
    throw new TypeError(`${call}: ${show(found.name)} is an internal table`);
  }
  if (found.type !== "table") {
    const what = found.type === "view" ? "a view" : `a ${found.type} table`;
    throw new TypeError(`${call}: ${show(found.name)} is ${what}; changes are captured of ordinary tables`);
  }
  const all = columns.all(found.name);
  const key = all.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
  const names = all.map((column) => column.name);
  const rowid = ["rowid", "_rowid_", "oid"].find(
    (one) => !names.some((other) => other.toLowerCase() === one),
  );
  if (key.length === 0 && rowid === undefined) {
    throw new TypeError(`${call}: ${show(found.name)} has no primary key, and columns hide its row id`);
  }
  return {
    name: found.name,
    columns: names,
    writable: all.find(({ hidden }) => hidden === 0)?.name as string,
    key: key.length > 0 ? key.map((column) => column.name) : [rowid as string],
  };
}

interface TableStatements {
  readonly table: Statement<{ name: string; type: string }, [string]>;
  readonly columns: Statement<{ name: string; pk: number; hidden: number }, [string]>;
}

function prepareTableStatements(connection: Connection): TableStatements {
  return {
    table: connection.prepare(
      "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?1)",
    ),
    columns: connection.prepare(
      "SELECT name, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
    ),
  };
}
