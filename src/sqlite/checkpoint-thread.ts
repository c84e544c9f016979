// Runs in a helper thread: a checkpoint writes and syncs megabytes, which would stall the event loop.
import { Database } from "bun:sqlite";

declare const self: Worker;

interface Request {
  readonly path: string;
  readonly mode: "PASSIVE" | "RESTART";
}

self.onmessage = ({ data }: MessageEvent<Request>) => {
  try {
    using db = new Database(data.path, { create: false, readwrite: true });
    db.run("PRAGMA wal_checkpoint(PASSIVE)");
    if (data.mode === "RESTART") {
      // Holds the write lock, but what is left to copy by now is little.
      db.run("PRAGMA busy_timeout = 1000");
      db.run("PRAGMA wal_checkpoint(RESTART)");
    }
    self.postMessage(undefined);
  } catch (error) {
    self.postMessage(String(error)); // such as BUSY while somebody else checkpoints: the next request will do
  }
};
