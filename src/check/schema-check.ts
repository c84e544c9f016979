import type { Connection } from "../sqlite/connection.ts";
import { expectedSchema, missingColumns, readSchema } from "../sqlite/own-schema.ts";
import type { Finding } from "./finding.ts";

/** What a file's tables, indexes, triggers and views are, beside what they should be. */
export function checkSchema(connection: Connection): Finding[] {
  const [found, expected] = [readSchema(connection), expectedSchema()];
  const findings: Finding[] = [];
  for (const [name, object] of expected) {
    const { type, sql } = object;
    const one = found.get(name);
    if (one === undefined) findings.push(drift(`the ${type} ${name} is missing`));
    else if (type === "table") {
      const missing = missingColumns(one, object);
      if (missing.length > 0) findings.push(drift(`the table ${name} lacks ${missing.join(", ")}`));
      else if (normalized(one.sql) !== normalized(sql) && isOwn(name)) findings.push(changed(type, name));
    } else if (normalized(one.sql) !== normalized(sql) && isOwn(name)) {
      findings.push(changed(type, name));
    }
  }
  for (const { type, name, table } of found.values()) {
    if (type !== "trigger" || expected.has(name) || !expected.has(table)) continue;
    findings.push({
      kind: "trigger",
      message: `the trigger ${name} on ${table} is not honkbun's`,
      advice: `It runs within every write to that table, and can change or refuse it. Unless it is yours: DROP TRIGGER "${name}"`,
    });
  }
  return findings;
}

function changed(type: string, name: string): Finding {
  return drift(`the ${type} ${name} is not as honkbun made it`);
}

function drift(message: string): Finding {
  return {
    kind: "schema",
    message,
    advice:
      "Somebody has changed it by hand. Restore the file from a backup, or let honkbun create its tables in a new file and copy the rows.",
  };
}

/** honker writes its own tables and indexes in other words. */
function isOwn(name: string): boolean {
  return !name.startsWith("_honker_");
}

/** IF NOT EXISTS is left out by SQLite, white space is not. */
function normalized(sql: string): string {
  return sql.replaceAll(/\s+/g, " ").trim();
}
