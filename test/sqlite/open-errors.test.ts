import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";

import { AmbiguousTransactionError, ClosedError, OpenError } from "../../src/errors.ts";
import { open, type OpenOptions } from "../../src/index.ts";
import { SCHEMA_VERSION } from "../../src/sqlite/migrations.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { Folder } from "../support/folder.ts";
import { openUnprivileged } from "../support/unprivileged.ts";

interface Refusal {
  readonly error: abstract new (...args: never[]) => Error;
  readonly code: string;
  /** Of the folder's files, the one that the message must name. Default `app.db`. */
  readonly names?: string;
  readonly make: (folder: Folder) => string | Database;
}

const REFUSALS: Readonly<Record<string, Refusal>> = {
  "a directory": {
    error: OpenError,
    code: "HONKBUN_OPEN_DIRECTORY",
    make: (folder) => {
      mkdirSync(folder.file());
      return folder.file();
    },
  },
  "a file that is not a database": {
    error: OpenError,
    code: "HONKBUN_OPEN_NOT_A_DATABASE",
    make: (folder) => {
      writeFileSync(folder.file(), "not a database ".repeat(100));
      return folder.file();
    },
  },
  "a damaged database": {
    error: OpenError,
    code: "HONKBUN_OPEN_DAMAGED",
    make: (folder) => {
      const bytes = readFileSync(makeFile(folder));
      bytes.fill(0xff, 100, 200); // the header of the page that holds the schema
      writeFileSync(folder.file(), bytes);
      return folder.file();
    },
  },
  "a file in a missing folder": {
    error: OpenError,
    code: "HONKBUN_OPEN_MISSING_FOLDER",
    names: "missing",
    make: (folder) => folder.file("missing/app.db"),
  },
  "a file below a file": {
    error: OpenError,
    code: "HONKBUN_OPEN_MISSING_FOLDER",
    make: (folder) => {
      writeFileSync(folder.file(), "");
      return folder.file("app.db/app.db");
    },
  },
  "a name that is too long": {
    error: OpenError,
    code: "HONKBUN_OPEN_FAILED",
    names: "a".repeat(300),
    make: (folder) => folder.file("a".repeat(300)),
  },
  "a file of a newer schema version": {
    error: OpenError,
    code: "HONKBUN_OPEN_NEWER_VERSION",
    make: (folder) => makeFile(folder, NEWER),
  },
  "a handle on a file of a newer schema version": {
    error: OpenError,
    code: "HONKBUN_OPEN_NEWER_VERSION",
    make: (folder) => new Database(makeFile(folder, NEWER)),
  },
  "a read-only handle": {
    error: OpenError,
    code: "HONKBUN_OPEN_READ_ONLY",
    make: (folder) => new Database(makeFile(folder), { readonly: true }),
  },
  "a handle that may only query": {
    error: OpenError,
    code: "HONKBUN_OPEN_READ_ONLY",
    make: (folder) => makeHandle(folder, (handle) => handle.run("PRAGMA query_only = 1")),
  },
  "a closed handle": {
    error: ClosedError,
    code: "HONKBUN_CLOSED",
    make: (folder) => makeHandle(folder, (handle) => handle.close()),
  },
  "a handle inside a transaction": {
    error: AmbiguousTransactionError,
    code: "HONKBUN_AMBIGUOUS_TRANSACTION",
    make: (folder) => makeHandle(folder, (handle) => handle.run("BEGIN")),
  },
};

describe("open", () => {
  for (const [what, { error, code, names, make }] of Object.entries(REFUSALS)) {
    test(`refuses ${what}`, () => {
      using folder = new Folder();
      const file = make(folder);
      const refusal = failure(file);
      close(file);
      expect(refusal).toBeInstanceOf(error);
      expect(refusal).toMatchObject({ code });
      expect(refusal.message).toContain(folder.file(names));
    });

    test.skipIf(process.platform !== "linux")(`leaves nothing behind when it refuses ${what}`, () => {
      using folder = new Folder();
      const file = make(folder);
      const before = [contentOf(folder), openDescriptors(folder.path)];
      failure(file);
      const after = [contentOf(folder), openDescriptors(folder.path)];
      close(file);
      expect(after).toEqual(before);
    });
  }

  test("leaves a handle that it refuses outside of any transaction", () => {
    using folder = new Folder();
    using handle = new Database(makeFile(folder), { readonly: true });
    failure(handle);
    expect(handle.inTransaction).toBe(false);
  });

  test.each([
    ["file", 0o444, 0o777],
    ["folder", 0o666, 0o555],
  ])("refuses a read-only %s, and leaves it as it is", async (what, fileMode, folderMode) => {
    using folder = new Folder();
    const file = makeFile(folder);
    chmodSync(file, fileMode);
    chmodSync(folder.path, folderMode);
    const before = contentOf(folder);
    const refusal = await openUnprivileged(file);
    const after = contentOf(folder);
    chmodSync(folder.path, 0o777);
    expect(refusal).toEqual({
      name: "OpenError",
      code: "HONKBUN_OPEN_READ_ONLY",
      path: file,
      message: expect.stringContaining(`the ${what} ${what === "file" ? file : folder.path} is not writable`),
    });
    expect(after).toEqual(before);
  });

  test("refuses a new file in a read-only folder", async () => {
    using folder = new Folder();
    chmodSync(folder.path, 0o555);
    const refusal = await openUnprivileged(folder.file());
    chmodSync(folder.path, 0o777);
    expect(refusal).toMatchObject({
      code: "HONKBUN_OPEN_READ_ONLY",
      path: folder.file(),
      message: expect.stringContaining(folder.path),
    });
  });

  // Else the refusals above could have another reason.
  test("needs no more than a file and a folder that are writable", async () => {
    using folder = new Folder();
    chmodSync(makeFile(folder), 0o666);
    chmodSync(folder.path, 0o777);
    expect(await openUnprivileged(folder.file())).toBeNull();
  });

  test("refuses a URI, and makes no file of that name", () => {
    const name = `honkbun-${crypto.randomUUID()}.db`;
    const refusal = failure(`file:${name}`);
    expect(refusal).toBeInstanceOf(TypeError);
    expect(refusal.message).toContain(`file:${name}`);
    expect([name, `file:${name}`].filter((path) => existsSync(path))).toEqual([]);
  });

  test.each([
    ["", 'got ""'],
    ["app.db\0", 'got "app.db\\u0000"'],
    [42, "got 42"],
    [undefined, "got undefined"],
    [{}, "got an object"],
  ])("refuses %p for a path", (file, got) => {
    const refusal = failure(file as string);
    expect(refusal).toBeInstanceOf(TypeError);
    expect(refusal.message).toStartWith("open: file must be a path");
    expect(refusal.message).toEndWith(got);
  });

  test.each([
    [{ timeout: 5 }, TypeError, ["unknown option timeout"]],
    [{ wake: { every: 5 } }, TypeError, ["unknown option wake.every"]],
    ["app.db", TypeError, ["options", "object", '"app.db"']],
    [{ readers: 0 }, RangeError, ["readers", ">=1", "got 0"]],
    [{ readers: 65 }, RangeError, ["readers", "<=64", "got 65"]],
    [{ readers: 1.5 }, TypeError, ["readers", "int", "got 1.5"]],
    [{ busyTimeout: -1 }, RangeError, ["busyTimeout", "0 or more", "got -1"]],
    [{ busyTimeout: "5 s" }, TypeError, ["busyTimeout", '"10s"', 'got "5 s"']],
    [{ synchronous: "off" }, TypeError, ["synchronous", '"normal"|"full"', 'got "off"']],
    [{ clock: 0 }, TypeError, ["clock", "function", "got 0"]],
    [{ clock: () => "now" }, TypeError, ["clock", "epoch milliseconds", "got NaN"]],
    [{ wake: { mode: "push" } }, TypeError, ["wake.mode", '"auto"|"watch"|"poll"', 'got "push"']],
    [
      { wake: { safetyInterval: true } },
      TypeError,
      ["wake.safetyInterval", "false or a duration", "got true"],
    ],
    [{ wake: { safetyInterval: -1 } }, RangeError, ["wake.safetyInterval", "0 or more", "got -1"]],
    [{ notifications: { maxAge: "1w" } }, TypeError, ["notifications.maxAge", '"7d"', 'got "1w"']],
    [{ notifications: { maxCount: -1 } }, RangeError, ["notifications.maxCount", ">=0", "got -1"]],
  ])("refuses the options %j before it makes a file", (options, error, parts) => {
    using folder = new Folder();
    const refusal = failure(folder.file(), options as OpenOptions);
    expect(refusal).toBeInstanceOf(error);
    expect(refusal.message).toStartWith("open: ");
    for (const part of parts) expect(refusal.message).toContain(part);
    expect(contentOf(folder)).toEqual({});
  });
});

const NEWER = `
  CREATE TABLE _honkbun_migrations (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL);
  INSERT INTO _honkbun_migrations VALUES (${SCHEMA_VERSION + 1}, 0);
`;

/** A file that is not in WAL mode: to put it there would be a trace. */
function makeFile(folder: Folder, sql = "CREATE TABLE orders (id INTEGER)"): string {
  using db = new Database(folder.file());
  db.run(sql);
  return folder.file();
}

function makeHandle(folder: Folder, prepare: (handle: Database) => unknown): Database {
  const handle = new Database(makeFile(folder));
  prepare(handle);
  return handle;
}

function failure(file: string | Database, options?: OpenOptions): Error {
  try {
    open(file, options).close();
  } catch (error) {
    return error as Error;
  }
  throw new Error("it was opened");
}

function close(file: string | Database): void {
  if (typeof file !== "string") file.close();
}

/** The names of the folder's files and what is in them. */
function contentOf(folder: Folder): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder.path).map((name) => [
      name,
      statSync(folder.file(name)).isDirectory() ? "a directory" : readFileSync(folder.file(name), "base64"),
    ]),
  );
}
