import { Database } from "bun:sqlite";

/** What the thread is to do. */
export interface Hold {
  readonly path: string;
  readonly milliseconds: number;
}

declare const self: Worker;

// Takes a file's write lock, says so, and keeps it for a while.
self.onmessage = ({ data }: MessageEvent<Hold>) => {
  using handle = new Database(data.path, { create: false, readwrite: true });
  handle.run("PRAGMA busy_timeout = 60000");
  handle.run("BEGIN IMMEDIATE");
  self.postMessage("held");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, data.milliseconds);
  handle.run("ROLLBACK");
  process.exit();
};
