import type { CaptureTerms, Operation } from "./capture-options.ts";
import type { Table } from "./table.ts";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/**
 * The trigger that captures one operation. It needs nothing but SQLite, so that it works in whatever program writes. The note stands
 * in a comment at its beginning.
 */
export function triggerOf(
  name: string,
  table: Table,
  terms: CaptureTerms,
  operation: Operation,
  note: string,
): string {
  const { columns, when, into } = terms;
  const told = columns ?? table.columns;
  const changed = told.map((column) => `old.${quoteName(column)} IS NOT new.${quoteName(column)}`);
  const conditions = [
    ...(operation === "update" && columns !== null ? [`(${changed.join(" OR ")})`] : []),
    ...(when === null ? [] : [`(${when})`]),
  ];
  const row = operation === "delete" ? "old" : "new";
  const change = `json_object(
    'operation', ${quoteText(operation)},
    'table', ${quoteText(table.name)},
    'key', json(${jsonOf(row, table.key)}),
    'old', ${operation === "insert" ? "NULL" : `json(${jsonOf("old", told)})`},
    'new', ${operation === "delete" ? "NULL" : `json(${jsonOf("new", told)})`})`;
  return `CREATE TRIGGER ${quoteName(name)} AFTER ${operation.toUpperCase()} ON ${quoteName(table.name)}
${conditions.length === 0 ? "" : `WHEN ${conditions.join(" AND ")}\n`}BEGIN /* ${note} */
  ${insertion(into, change, keyText(row, table.key))};
END`;
}

function insertion({ kind, name }: CaptureTerms["into"], change: string, key: string): string {
  const to = quoteText(name);
  switch (kind) {
    case "stream":
      return `INSERT INTO _honker_stream (topic, key, payload) VALUES (${to}, ${key}, ${change})`;
    case "channel":
      return `INSERT INTO _honker_notifications (channel, payload) VALUES (${to}, ${change})`;
    case "queue":
      return `INSERT INTO _honker_live (queue, payload) VALUES (${to}, ${change})`;
    default:
      return kind satisfies never;
  }
}

/** The columns of a row as a JSON object. In one subquery, so that what turns blobs into text is there once. */
function jsonOf(row: "old" | "new", columns: readonly string[]): string {
  const values = columns.map(
    (column, index) =>
      `SELECT ${quoteText(column)}${index === 0 ? " AS name" : ""}, ${row}.${quoteName(column)}${index === 0 ? " AS value" : ""}`,
  );
  return `(SELECT json_group_object(name, ${textOfBlobs("value")}) FROM (${values.join(" UNION ALL ")}))`;
}

/** The key of the event: one column as text, several as a JSON array. */
function keyText(row: "old" | "new", [first = "rowid", ...others]: readonly string[]): string {
  const value = (column: string): string => textOfBlobs(`${row}.${quoteName(column)}`);
  if (others.length === 0) return `CAST(${value(first)} AS TEXT)`;
  return `json_array(${[first, ...others].map(value).join(", ")})`;
}

/**
 * JSON holds no blobs, and SQLite knows no base64: three bytes at a time, from their six hexadecimal digits. Only their place is
 * carried along: a text, or a copy, of the whole in each step would take a time that grows with the square of the length.
 */
function textOfBlobs(value: string): string {
  const digit = (at: number): string => `max(instr('0123456789ABCDEF', substr(hex, ${at}, 1)) - 1, 0)`;
  const symbol = (index: string): string => `substr('${DIGITS}', ${index} + 1, 1)`;
  return `iif(typeof(${value}) <> 'blob', ${value}, (
    WITH RECURSIVE three(at) AS (
      SELECT 1 WHERE length(${value}) > 0 UNION ALL SELECT at + 3 FROM three WHERE at + 3 <= length(${value}))
    SELECT coalesce(group_concat(
      ${symbol(`${digit(1)} * 4 + (${digit(2)} >> 2)`)}
      || ${symbol(`(${digit(2)} & 3) * 16 + ${digit(3)}`)}
      || iif(length(hex) < 4, '=', ${symbol(`${digit(4)} * 4 + (${digit(5)} >> 2)`)})
      || iif(length(hex) < 6, '=', ${symbol(`(${digit(5)} & 3) * 16 + ${digit(6)}`)}), ''), '')
    FROM (SELECT hex(substr(${value}, at, 3)) AS hex FROM three)))`;
}
