import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { open } from "../../src/index.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { Folder } from "../support/folder.ts";

const KINDS = ["wal", "delete", ":memory:"];
const OPTIONS = [{}, { safeIntegers: true }, { strict: true }, { safeIntegers: true, strict: true }];

describe("open of a handle", () => {
  test.each(KINDS.flatMap((kind) => OPTIONS.map((options) => [kind, options] as const)))(
    "sends and claims with plain numbers (%s, %j)",
    (kind, options) => {
      using folder = new Folder();
      using handle = makeHandle(folder, kind, options);
      using db = open(handle);
      const queue = db.queue("q");
      expect([queue.enqueue("a"), queue.enqueue("b"), db.notify("c", 1)]).toEqual([1, 2, 1]);
      const [job] = queue.claimBatch(1);
      expect([job?.id, job?.attempt, job?.maxAttempts, job?.priority]).toEqual([1, 1, 3, 0]);
      job?.ack();
      expect(queue.claimBatch(2).map(({ id }) => id)).toEqual([2]);
    },
  );

  test.each(KINDS)("uses the handle itself, and leaves it open (%s)", (kind) => {
    using folder = new Folder();
    using handle = makeHandle(folder, kind);
    const db = open(handle);
    expect(db.sqlite).toBe(handle);
    db.queue("q").enqueue(1);
    db.close();
    handle.run("INSERT INTO orders VALUES (2)");
    expect(handle.query("SELECT id FROM orders").values()).toEqual([[1], [2]]);
  });

  test.each(KINDS)("changes no pragma of the handle (%s)", (kind) => {
    using folder = new Folder();
    using handle = makeHandle(folder, kind);
    for (const [pragma, value] of Object.entries(PRAGMAS)) handle.run(`PRAGMA ${pragma} = ${value}`);
    const before = pragmasOf(handle);
    expect(before).toMatchObject(PRAGMAS);
    using db = open(handle, { busyTimeout: "7s", synchronous: "full" });
    expect(pragmasOf(handle)).toEqual(before);
    db.queue("q").enqueue(1);
    db.queue("q").claimBatch(1)[0]?.ack();
    expect(pragmasOf(handle)).toEqual(before);
    db.close();
    expect(pragmasOf(handle)).toEqual(before);
  });

  test("writes nothing to a file of the current version", () => {
    using folder = new Folder();
    using handle = makeHandle(folder, "wal");
    open(handle).close();
    using watcher = new Database(folder.file());
    const before = watcher.query("PRAGMA data_version").get();
    open(handle).close();
    expect(watcher.query("PRAGMA data_version").get()).toEqual(before);
  });

  test.skipIf(process.platform !== "linux")("leaves no descriptor open once the handle is closed", () => {
    using folder = new Folder();
    for (let time = 0; time < 20; time++) {
      const handle = new Database(folder.file());
      const db = open(handle);
      const queue = db.queue("q");
      for (let job = 0; job < 3; job++) queue.enqueue(job);
      db.transaction(() => db.transaction(() => db.notify("c")));
      const [acked, retried, failed] = queue.claimBatch(3);
      acked?.ack();
      retried?.retry();
      failed?.fail(new Error("no"));
      db.close();
      handle.close();
    }
    expect(openDescriptors(folder.path)).toEqual([]);
  });
});

/** On a file in that journal mode, or in memory, with a table that has a row. */
function makeHandle(folder: Folder, kind: string, options: object = {}): Database {
  const path = kind === ":memory:" ? kind : folder.file();
  const handle = new Database(path, { readwrite: true, create: true, ...options });
  if (kind !== ":memory:") handle.run(`PRAGMA journal_mode = ${kind}`);
  handle.run("CREATE TABLE orders (id INTEGER)");
  handle.run("INSERT INTO orders VALUES (1)");
  return handle;
}

/** Every pragma that belongs to the connection and not to the file, at a value that is nobody's default. */
const PRAGMAS = {
  analysis_limit: 77,
  automatic_index: 0,
  busy_timeout: 1_234,
  cache_size: -777,
  cell_size_check: 1,
  checkpoint_fullfsync: 1,
  foreign_keys: 1,
  fullfsync: 1,
  ignore_check_constraints: 1,
  journal_size_limit: 77_777,
  legacy_alter_table: 1,
  recursive_triggers: 1,
  reverse_unordered_selects: 1,
  secure_delete: 1,
  synchronous: 3,
  temp_store: 2,
  trusted_schema: 0,
  wal_autocheckpoint: 77,
};

function pragmasOf(handle: Database): Record<string, unknown> {
  return Object.fromEntries(
    Object.keys(PRAGMAS).map((pragma) => [pragma, handle.query(`PRAGMA ${pragma}`).values()[0]?.[0]]),
  );
}
