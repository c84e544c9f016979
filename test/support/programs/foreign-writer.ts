// Knows nothing of honkbun: plain bun:sqlite on the same file. Arguments: path, synchronous.
import { Database } from "bun:sqlite";
import { statSync } from "node:fs";

import { answer } from "./channel.ts";

const [path = "", synchronous = "normal"] = process.argv.slice(2);

function connect(): Database {
  const db = new Database(path);
  db.run(`PRAGMA synchronous = ${synchronous}`);
  db.run("PRAGMA busy_timeout = 5000");
  return db;
}

type Message =
  | { readonly notify: string; readonly size?: number }
  /** Runs statements in one transaction. */
  | { readonly sql: readonly string[] }
  /** Opens, runs and closes, so that it is no longer connected. */
  | { readonly once: string }
  /** Takes the write lock and keeps it for so many milliseconds; answers as soon as it has it. */
  | { readonly hold: number }
  /** Writes so many megabytes without a pause, and checkpoints nothing. Answers with the size of the WAL in megabytes. */
  | { readonly flood: number };

let db: Database | undefined;
await answer((message: Message) => {
  if ("once" in message) {
    using once = connect();
    once.run(message.once);
    return null;
  }
  db ??= connect();
  if ("notify" in message) {
    const payload = JSON.stringify("x".repeat(message.size ?? 0));
    db.run("INSERT INTO _honker_notifications (channel, payload) VALUES (?, ?)", [message.notify, payload]);
  } else if ("sql" in message) {
    db.run("BEGIN IMMEDIATE");
    for (const sql of message.sql) db.run(sql);
    if (db.inTransaction) db.run("COMMIT");
  } else if ("flood" in message) {
    db.run("PRAGMA wal_autocheckpoint = 0");
    const insert = db.prepare("INSERT INTO _honker_notifications (channel, payload) VALUES ('flood', ?)");
    for (let written = 0; written < message.flood; written += 0.1) insert.run("x".repeat(100_000));
    return statSync(`${path}-wal`).size / 1_000_000;
  } else {
    db.run("BEGIN IMMEDIATE");
    setTimeout(() => db?.run("COMMIT"), message.hold);
  }
  return null;
});
