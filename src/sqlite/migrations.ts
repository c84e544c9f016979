import { show } from "../duration.ts";
import { OpenError } from "../errors.ts";
import type { LockWait } from "./busy.ts";
import type { Connection } from "./connection.ts";
import { FLOW_COLUMNS, FLOW_TABLES, FLOW_TRIGGERS } from "./flow-schema.ts";
import { LOCK_COLUMNS, LOCK_TABLES } from "./lock-schema.ts";
import { RATE_LIMIT_COLUMNS, RATE_LIMIT_TABLES } from "./rate-limit-schema.ts";
import { SCHEDULE_TABLES } from "./schedule-schema.ts";
import {
  type Column,
  HISTORY_COLUMNS,
  HONKER_TABLES,
  LIVE_COLUMNS,
  LIVE_INDEXES,
  OWN_TABLES,
  QUEUE_TABLES,
} from "./schema.ts";
import { STREAM_TABLES } from "./stream-schema.ts";
import { finishTransaction, prepareTransactionStatements } from "./transaction.ts";
import { VIEWS } from "./views.ts";

/** Each runs once per file, in order, all that are missing in one transaction. What has been released is never edited. */
const MIGRATIONS: readonly ((connection: Connection) => void)[] = [
  (connection) => {
    connection.execute(HONKER_TABLES);
    addColumns(connection, "_honker_live", LIVE_COLUMNS);
    connection.execute(LIVE_INDEXES);
    connection.execute(OWN_TABLES);
  },
  (connection) => {
    addColumns(connection, "_honker_live", HISTORY_COLUMNS);
    connection.execute(QUEUE_TABLES);
  },
  (connection) => {
    addColumns(connection, "_honker_live", FLOW_COLUMNS);
    connection.execute(FLOW_TABLES);
    connection.execute(FLOW_TRIGGERS);
    connection.execute(STREAM_TABLES);
  },
  (connection) => {
    addColumns(connection, "_honker_locks", LOCK_COLUMNS);
    connection.execute(LOCK_TABLES);
    addColumns(connection, "_honker_rate_limits", RATE_LIMIT_COLUMNS);
    connection.execute(RATE_LIMIT_TABLES);
    connection.execute(SCHEDULE_TABLES);
    connection.execute(VIEWS);
  },
];

/** Of the schema that this version writes. */
export const SCHEMA_VERSION: number = MIGRATIONS.length;

/**
 * Brings the file's tables up to this version, whoever made it. What `verify` throws leaves the file as it was.
 * @throws OpenError for a file of a newer version.
 */
export function migrate(
  connection: Connection,
  path: string,
  wait: LockWait,
  now: number,
  verify: () => void = () => {},
): void {
  if (readVersion(connection, path, wait) === SCHEMA_VERSION) return;
  const { begin } = connection.use(prepareTransactionStatements);
  wait.run(() => begin.run());
  finishTransaction(connection, () => {
    // Another process may have been here between the look and the lock.
    const version = readVersion(connection, path, wait);
    connection.execute(
      "CREATE TABLE IF NOT EXISTS _honkbun_migrations (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)",
    );
    for (let next = version; next < SCHEMA_VERSION; next++) {
      MIGRATIONS[next]?.(connection);
      connection.handle.run("INSERT INTO _honkbun_migrations (version, applied_at) VALUES (?, ?)", [
        next + 1,
        now,
      ]);
    }
    verify();
  });
}

/**
 * The version of the file's tables; 0 where there are none.
 * @throws OpenError for a file of a newer version.
 */
export function readVersion(connection: Connection, path: string, wait: LockWait): number {
  // Even a read finds the file locked while another process changes its journal mode or recovers its WAL.
  const version = wait.run(() => storedVersion(connection));
  if (!Number.isInteger(version) || version < 0) {
    throw new OpenError("DAMAGED", path, `open: ${path} has ${show(version)} for a schema version`);
  }
  if (version > SCHEMA_VERSION) {
    throw new OpenError(
      "NEWER_VERSION",
      path,
      `open: ${path} has schema version ${version}, this honkbun knows versions up to ${SCHEMA_VERSION}; update honkbun`,
    );
  }
  return version;
}

function storedVersion(connection: Connection): number {
  const table = connection.prepare<{ n: number }>(
    "SELECT count(*) AS n FROM sqlite_schema WHERE type = 'table' AND name = '_honkbun_migrations'",
  );
  if (table.get()?.n === 0) return 0;
  const stored = connection.prepare<{ version: number | null }>(
    "SELECT max(version) AS version FROM _honkbun_migrations",
  );
  return stored.get()?.version ?? 0;
}

function addColumns(connection: Connection, table: string, columns: readonly Column[]): void {
  // table_xinfo, because table_info leaves generated columns out
  const present = connection.prepare<{ name: string }>(`SELECT name FROM pragma_table_xinfo('${table}')`);
  const names = new Set(present.all().map((column) => column.name));
  for (const { name, definition } of columns) {
    if (!names.has(name)) connection.execute(`ALTER TABLE ${table} ADD COLUMN ${name} ${definition}`);
  }
}
