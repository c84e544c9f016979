import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";

import { open } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { Everything, WRITES } from "../support/everything.ts";
import { Folder } from "../support/folder.ts";

const PAGE = 4_096;

/** Damages a file behind SQLite's back, and puts it right again. After either everybody reads anew. */
class Damage {
  readonly #path: string;
  readonly #good: Buffer;
  readonly #pages: readonly number[];

  /** Of all tables, or of one: their first pages, and those of their indexes. */
  constructor(path: string, table = "%") {
    this.#path = path;
    using database = this.#open();
    database.query("PRAGMA wal_checkpoint(TRUNCATE)").get();
    this.#good = readFileSync(path);
    const roots = database.query<{ page: number }, [string]>(
      "SELECT rootpage AS page FROM sqlite_schema WHERE tbl_name LIKE ? AND rootpage > 1",
    );
    this.#pages = roots.all(table).map(({ page }) => page);
    this.#write(() => Buffer.alloc(PAGE, 0xff));
  }

  mend(): void {
    this.#write((start) => this.#good.subarray(start, start + PAGE));
  }

  #write(content: (start: number) => Buffer): void {
    const file = openSync(this.#path, "r+");
    for (const page of this.#pages) {
      const start = (page - 1) * PAGE;
      writeSync(file, content(start), 0, PAGE, start);
    }
    using database = this.#open(); // or closing the file would drop SQLite's locks
    closeSync(file);
    const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version;
    database.run(`PRAGMA user_version = ${(version ?? 0) + 1}`);
  }

  #open(): Database {
    const database = new Database(this.#path);
    database.run("PRAGMA busy_timeout = 5000");
    return database;
  }
}

test("a file that is damaged while it is open is told of by calls, loops and check(), and used again once it is mended", async () => {
  using folder = new Folder();
  await using everything = await Everything.start(folder.file());
  expect(await everything.failures()).toEqual({});
  await everything.finished();
  await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
  const damage = new Damage(folder.file());

  const failures = Object.fromEntries([...WRITES, "counts", "list"].map((name) => [name, "SQLITE_CORRUPT"]));
  expect(await everything.failures([...WRITES, "counts", "list"])).toEqual(failures);
  await everything.until(({ errors }) => (errors["wake: SQLITE_CORRUPT"] ?? 0) > 2, "the loops tell it");
  expect(await everything.call("check")).toMatchObject({ value: [{ kind: "integrity" }] });
  expect((await everything.report()).ended).toEqual({});
  expect(() => open(folder.file())).toThrow(expect.objectContaining({ code: "HONKBUN_OPEN_DAMAGED" }));

  damage.mend();
  const { ticks } = await everything.report();
  expect(await everything.failures()).toEqual({});
  const { ran } = await everything.finished();
  expect(ran).toHaveLength(everything.jobs.length); // once each
  await everything.until((report) => report.ticks > ticks, "the scheduler goes on");
  expect(await everything.call("check")).toMatchObject({ value: [] });
}, 60_000);

test("a worker whose jobs cannot be read tells it, and other modules go on", async () => {
  using folder = new Folder();
  await using everything = await Everything.start(folder.file());
  await everything.until(({ ticks }) => ticks > 0, "the scheduler leads");
  for (let n = 0; n < 8; n++) await everything.call("enqueueSlow"); // twice as many as run at once
  new Damage(folder.file(), "_honker_live");
  expect(await everything.failures(["enqueue", "enqueueAsync", "transaction"])).toEqual({
    enqueue: "SQLITE_CORRUPT",
    enqueueAsync: "SQLITE_CORRUPT",
    transaction: "SQLITE_CORRUPT",
  });
  expect(await everything.failures(["publish", "notify", "tryLock", "lock", "rateLimit"])).toEqual({});
  await everything.until(
    ({ errors, heard, consumed }) =>
      errors["worker of q: SQLITE_CORRUPT"] !== undefined && heard.length === 1 && consumed.length === 1,
    "the worker tells it; what is sent arrives",
  );
}, 60_000);

test("check() tells of a file whose header was overwritten while it is open", () => {
  using folder = new Folder();
  using db = open(folder.file());
  db.queue("q").enqueue(1);
  using other = new Database(folder.file());
  const file = openSync(folder.file(), "r+");
  other.run("PRAGMA user_version = 1"); // so that everybody reads the header anew
  other.query("PRAGMA wal_checkpoint(TRUNCATE)").get();
  writeSync(file, Buffer.alloc(100, 0x55), 0, 100, 0);
  expect(() => db.queue("q").enqueue(2)).toThrow(expect.objectContaining({ code: "SQLITE_NOTADB" }));
  expect(db.check().findings).toMatchObject([{ kind: "integrity", message: "file is not a database" }]);
  db.close(); // before the descriptor, which would drop SQLite's locks
  closeSync(file);
});

test("what cannot be read is told at a sane pace beside a worker that is busy", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  let told = 0;
  using _ = db.on("error", ({ where }) => void (where === "wake" && told++));
  db.listen("c", () => {});
  db.notify("c");
  const queue = db.queue<number>("q");
  queue.enqueueMany(Array.from({ length: 20_000 }, (_, n) => n));
  new Damage(folder.file(), "_honker_notifications");
  let ran = 0;
  await using __ = queue.work(async () => {
    await Bun.sleep(1);
    ran++;
  });
  await eventually(() => told > 0, "it is told");
  await Bun.sleep(2_000);
  expect(ran).toBeGreaterThan(100);
  expect(told).toBeLessThan(20);
  queue.clear();
});

test("a log that is cut off while it is in use is told of, and nobody hangs", async () => {
  using folder = new Folder();
  await using everything = await Everything.start(folder.file());
  expect(await everything.failures()).toEqual({});
  await everything.finished();
  truncateSync(`${folder.file()}-wal`);
  await everything.call("counts");
  const { errors } = await everything.until(
    (report) => Object.keys(report.errors).length > 1,
    "several loops tell it",
  );
  for (const what of Object.keys(errors)) expect(what).toMatch(/: SQLITE_(CORRUPT|NOTADB|IOERR)/);
  expect(Object.values(await everything.failures()).length).toBeGreaterThan(5);
  expect(await everything.call("check")).toMatchObject({ value: [{ kind: "integrity" }] });
  expect((await everything.call("shutdown")).code).toBeUndefined();
}, 60_000);
