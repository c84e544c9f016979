import { Database, SQLiteError } from "bun:sqlite";

import { ClosedError, type FileReplacedError } from "../errors.ts";
import { threads } from "../threads.ts";
import { LockWait } from "./busy.ts";
import { Checkpointer } from "./checkpointer.ts";
import { Connection } from "./connection.ts";
import { FileIdentity } from "./file-identity.ts";
import { ForeignHandles } from "./foreign-handles.ts";
import { holdsWriteLock } from "./lock-holder.ts";
import { LONG_WAL } from "./long-wal.ts";
import { migrate, readVersion, SCHEMA_VERSION } from "./migrations.ts";
import { ensureWal, explain, openFile, pathOf } from "./open-file.ts";
import { assertNothingHidden, assertUsable, assertWritable } from "./open-handle.ts";
import { assertSchema } from "./own-schema.ts";
import { Statistics } from "./statistics.ts";
import { finishTransaction, inSavepoint, prepareTransactionStatements } from "./transaction.ts";
import { WriteGroup } from "./write-group.ts";
import { type Consequence, Writer } from "./writer.ts";

const MEMORY = ":memory:";
/** Milliseconds for which calls trust that the file is still the one with that name. */
const FILE_CHECK = 1;

export interface PoolOptions {
  readonly synchronous: "normal" | "full";
  /** Milliseconds. */
  readonly busyTimeout: number;
  readonly readers: number;
  /** When the schema is brought up to date, in epoch milliseconds. */
  readonly now: number;
  /** Whether a handle that is given is ours from now on: a file that is opened by its name always is. */
  readonly ownsHandle: boolean;
}

/** All connections to one database, shared by all modules of a honkbun handle. */
export class Pool {
  /** Absolute, symbolic links resolved; null for a database in memory. */
  readonly path: string | null;
  /** The application's connection: sends, settles, and every transaction that runs the user's code. */
  readonly writer: Writer;
  /** What library loops write. The application may leave a transaction open on its own connection; ours is apart. */
  readonly loops: WriteGroup;

  readonly #options: PoolOptions;
  readonly #ownsWriter: boolean;
  readonly #opening: LockWait;
  readonly #wait: LockWait;
  readonly #foreign: ForeignHandles;
  readonly #identity: FileIdentity | null;
  readonly #checkpointer: Checkpointer | null;
  readonly #statistics: Statistics;
  readonly #opened: Database[] = [];
  readonly #idleReaders: Connection[] = [];
  readonly #listeners: ((byLoops: boolean) => void)[] = [];
  #tooLong: (message: string) => void = () => {};
  #readers = 0;
  #loopWriter: Connection | undefined;
  /** Which its data_version leaves out. */
  #loopCommits = 0;
  #isReading = false;
  #fileCheckedAt = Number.NEGATIVE_INFINITY;
  #replaced: FileReplacedError | null = null;
  #closed = false;

  /** @throws TypeError or OpenError when `file` cannot be a database; see `open`. */
  constructor(file: string | Database, options: PoolOptions) {
    this.#options = options;
    this.#opening = new LockWait(options.busyTimeout);
    this.#ownsWriter = typeof file === "string" || options.ownsHandle;
    const handle = typeof file === "string" ? openFile(file) : file;
    if (this.#ownsWriter) this.#opened.push(handle);
    let path: string | null = null;
    try {
      if (!this.#ownsWriter) assertUsable(handle);
      path = this.#prepareFile(handle);
      this.path = path;
      this.#wait = new LockWait(options.busyTimeout, this.#lockHolder());
      this.writer = new Writer(
        new Connection(handle, this.#ownsWriter),
        this.#wait,
        this.#ownsWriter && path !== null ? Math.min(Math.ceil(options.busyTimeout), 2 ** 31 - 1) : null,
        () => this.#committed(),
      );
      this.loops = new WriteGroup(
        () => {
          this.#assertInPlace();
          return this.#loops();
        },
        () => this.#loopsCommitted(),
      );
      this.#foreign = new ForeignHandles(this.path, this.writer.connection);
      const connection = this.path === null ? this.writer.connection : this.#loops();
      migrate(connection, this.name, this.#wait, options.now, () =>
        assertSchema(connection, this.name, SCHEMA_VERSION),
      );
      // Has it open the log now: with no descriptor left for that, a later send would find no tables.
      if (this.#ownsWriter) this.#wait.run(() => handle.run("PRAGMA schema_version"));
      this.#identity = this.path === null ? null : new FileIdentity(this.path);
      this.#checkpointer =
        this.path === null
          ? null
          : new Checkpointer(
              this.path,
              () => this.#loops(),
              (message) => this.#tooLong(message),
            );
      this.#statistics = new Statistics(() => this.#loops(), this.loops);
      this.#statistics.check(performance.now());
      this.writer.letOthersWait();
    } catch (error) {
      for (const opened of this.#opened) opened.close(true);
      throw explain(error, path ?? handle.filename);
    }
  }

  /** The path, or `:memory:`. */
  get name(): string {
    return this.path ?? MEMORY;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Writes by one statement: on `tx`, on the open `db.transaction`, or committed by itself.
   * @throws BusyError, TransactionRequiredError, AmbiguousTransactionError, FileReplacedError, ClosedError.
   */
  write<T>(tx: Database | undefined, statement: (connection: Connection) => T): T {
    return this.#guarded(() => (this.isOwn(tx) ? this.writer.write(statement) : this.#join(tx, statement)));
  }

  /** The same for several statements, which take effect together or not at all. */
  writeAll<T>(tx: Database | undefined, statements: (connection: Connection) => T): T {
    if (this.isOwn(tx)) return this.transaction(() => statements(this.writer.connection));
    return this.write(tx, (connection) => inSavepoint(connection, () => statements(connection)));
  }

  /** Runs the application's code in a transaction on its connection. */
  transaction<T>(fn: (tx: Database) => T): T {
    return this.#guarded(() => this.writer.transaction(fn));
  }

  /** The same for loops, which wait for nothing: null when that cannot be now. */
  tryTransaction<T>(fn: (tx: Database) => T): { readonly result: T } | null {
    return this.#guarded(() => this.writer.tryTransaction(fn));
  }

  /** Whether a write with this option goes to the application's connection, joining `db.transaction` where one is open. */
  isOwn(tx: Database | undefined): tx is undefined {
    return tx === undefined || (this.writer.inTransaction && tx === this.writer.connection.handle);
  }

  /** Waits for the end of the open `db.transaction`; without one, what was written is committed already. */
  onEnd(consequence: Consequence): void {
    this.writer.onEnd(consequence);
  }

  /** Calls `listener` soon after the transaction on a handle of the application has ended, one way or the other. */
  whenEnded(tx: Database, listener: () => void): void {
    this.#foreign.whenEnded(tx, () => {
      if (!this.#closed) listener();
    });
  }

  /**
   * Reads what is committed. Mostly on the loops' connection, which has in its cache what loops have just written. A call
   * inside another, or inside their transaction, gets a connection of its own, so that no snapshot is shared.
   */
  readCommitted<T>(fn: (connection: Connection) => T): T {
    if (this.#closed) throw new ClosedError("this honkbun handle is closed");
    if (this.path === null) return fn(this.writer.connection);
    const loops = this.#loops();
    if (!this.#isReading && !loops.handle.inTransaction) {
      this.#isReading = true;
      try {
        return fn(loops);
      } finally {
        this.#isReading = false;
      }
    }
    const reader = this.#idleReaders.pop() ?? this.#openReader();
    try {
      return fn(reader);
    } finally {
      this.#idleReaders.push(reader);
    }
  }

  /**
   * Reads on the open `db.transaction` what it has written, else what is committed.
   * @throws ClosedError, FileReplacedError
   */
  read<T>(fn: (connection: Connection) => T): T {
    this.#assertInPlace();
    return this.writer.inTransaction ? fn(this.writer.connection) : this.readCommitted(fn);
  }

  /** Changes with each commit; null while what is read is not only what is committed, and in memory, where nothing tells. */
  committedVersion(): string | null {
    if (this.#closed) throw new ClosedError("this honkbun handle is closed");
    if (this.path === null || this.writer.inTransaction) return null;
    return `${this.dataVersion()}.${this.#loopCommits}`;
  }

  /** Changes whenever another connection than the loops', of whatever process, has committed. */
  dataVersion(): number {
    return this.#loops().use(prepareWatchStatements).dataVersion.get()?.data_version ?? 0;
  }

  /** Whether reads would see uncommitted writes: `:memory:` has one connection, and the application is in a transaction. */
  get isUnsettled(): boolean {
    return this.path === null && this.writer.isOccupied;
  }

  /**
   * Writes on the loops' connection what cannot be put off, waiting for the lock like a user's call.
   * @returns false when that cannot be: the application is inside a transaction on the only connection
   */
  writeLast(statements: (connection: Connection) => unknown): boolean {
    // Ours would be rolled back by closing it; until then it may hold the lock.
    if (this.#ownsWriter && this.writer.isOccupied) this.writer.connection.handle.run("ROLLBACK");
    const connection = this.#loops();
    if (connection.handle.inTransaction) return false;
    const { begin } = connection.use(prepareTransactionStatements);
    this.#wait.run(() => begin.run());
    finishTransaction(connection, () => statements(connection));
    this.#loopsCommitted();
    return true;
  }

  /** Calls `listener` after each commit of ours: by loops, or on a connection of the application's. */
  onCommit(listener: (byLoops: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** To be called when others have committed: they may have done more to the file than to write our rows. */
  othersCommitted(): void {
    this.#statistics.check(performance.now());
  }

  /** Calls `listener` now and then while the WAL is long, and cannot be checkpointed. */
  onLongWal(listener: (message: string) => void): void {
    this.#tooLong = listener;
  }

  /** Why nothing can be written or read any more, looked up now. */
  checkFailure(): FileReplacedError | ClosedError | null {
    if (this.#closed) return new ClosedError("this honkbun handle is closed");
    this.#lookForFile();
    if (this.#replaced !== null) return this.#replaced;
    if (this.path === null && this.writer.isClosed)
      return new ClosedError("the bun:sqlite handle was closed");
    return null;
  }

  /** Closes every connection that we opened. Not the handle that was given to `open`. */
  close(): void {
    if (this.#closed) return;
    this.#lookForFile();
    if (this.#replaced !== null) this.#identity?.forgetIndex(); // once more: statements of the application may have filled it again
    this.#closed = true;
    this.writer.close();
    this.loops.close(new ClosedError("this honkbun handle was closed"));
    this.#checkpointer?.close();
    // The last one to close checkpoints: that is the writer, which the application may have statements on.
    for (const handle of this.#opened.reverse()) handle.close(true);
  }

  /** On a file that lost its name nothing is written; and there SQLite fails in ways that explain nothing. */
  #guarded<T>(write: () => T): T {
    this.#assertInPlace();
    try {
      return write();
    } catch (error) {
      throw error instanceof SQLiteError ? (this.checkFailure() ?? error) : error;
    }
  }

  /** @throws ClosedError, FileReplacedError */
  #assertInPlace(): void {
    if (this.#closed) throw new ClosedError("this honkbun handle is closed");
    const now = performance.now();
    if (now - this.#fileCheckedAt >= FILE_CHECK) {
      this.#fileCheckedAt = now;
      this.#lookForFile();
    }
    if (this.#replaced !== null) throw this.#replaced;
  }

  /** Remembers what it finds, because it cannot come right again. */
  #lookForFile(): void {
    if (this.#replaced !== null || this.#identity === null) return;
    this.#replaced = this.#identity.check();
    if (this.#replaced !== null) this.#identity.forgetIndex();
  }

  #join<T>(tx: Database | undefined, work: (connection: Connection) => T): T {
    const connection = this.#foreign.join(tx as Database);
    const result = this.#wait.run(() => work(connection));
    this.whenEnded(tx as Database, () => this.#committed());
    return result;
  }

  #loopsCommitted(): void {
    this.#loopCommits++;
    this.#committed(true);
  }

  #committed(byLoops = false): void {
    for (const listener of this.#listeners) listener(byLoops);
    const now = performance.now();
    this.#checkpointer?.check(now);
    this.#statistics.check(now);
  }

  /** What is refused is refused before anything is written, be it the change of the journal mode. */
  #prepareFile(handle: Database): string | null {
    const path = pathOf(handle);
    if (!this.#ownsWriter) assertWritable(handle, this.#opening);
    if (path !== null && this.#ownsWriter) this.#configure(handle);
    else if (path !== null) this.#loopWriter = this.#open(path);
    const connection = this.#loopWriter ?? new Connection(handle, this.#ownsWriter);
    const version = readVersion(connection, path ?? MEMORY, this.#opening);
    // And once more, strictly, when it is migrated.
    this.#opening.run(() => assertSchema(connection, path ?? MEMORY, version));
    if (!this.#ownsWriter) this.#opening.run(() => assertNothingHidden(handle));
    if (path !== null) ensureWal(connection.handle, path, this.#opening);
    return path;
  }

  #loops(): Connection {
    if (this.path === null) return this.writer.connection;
    this.#loopWriter ??= this.#open();
    return this.#loopWriter;
  }

  #openReader(): Connection {
    if (this.#readers >= this.#options.readers) {
      throw new RangeError(`more than ${this.#options.readers} reads at once (open: readers)`);
    }
    this.#readers++;
    return this.#open();
  }

  #open(path: string | null = this.path): Connection {
    if (this.#closed || path === null) throw new ClosedError("this honkbun handle is closed");
    const handle = new Database(path, { create: false, readwrite: true });
    this.#opened.push(handle);
    // What statements set aside for a moment (rows to return, pages before a savepoint): through a temporary file's pages it took
    // a worker 8 % longer. Not on the connection that the application has, whose temporary tables may be large.
    handle.run("PRAGMA temp_store = MEMORY");
    this.#configure(handle);
    return new Connection(handle, true);
  }

  #configure(handle: Database): void {
    handle.run("PRAGMA busy_timeout = 0"); // waiting is LockWait's
    handle.run("PRAGMA wal_autocheckpoint = 0"); // checkpoints are the Checkpointer's
    handle.run(`PRAGMA journal_size_limit = ${LONG_WAL}`); // when the WAL starts anew after it was longer
    // This one reads the schema, beside another process that changes the journal mode or recovers the WAL.
    this.#opening.run(() => handle.run(`PRAGMA synchronous = ${this.#options.synchronous}`));
  }

  #lockHolder() {
    const { path } = this;
    if (path === null) return undefined;
    // A thread's transaction may end while we wait.
    const isThisThread = (): boolean => threads.running === 0 && holdsWriteLock(path);
    return { isThisThread, lastCommit: () => this.dataVersion() };
  }
}

function prepareWatchStatements(connection: Connection) {
  return { dataVersion: connection.prepare<{ data_version: number }>("PRAGMA data_version") };
}
