// Works on the queue "q", and notes in another file when each handler begins and ends, and how many run in all processes that
// are still there. Arguments: path, path of the notes, how many handlers at once.
import { Database } from "bun:sqlite";
import { readFileSync } from "node:fs";

import { open } from "../../../src/index.ts";
import { say } from "./channel.ts";

const [path = "", notes = "", concurrency = "1"] = process.argv.slice(2);
const log = new Database(notes);
log.run("PRAGMA busy_timeout = 10000");
const insert = log.prepare("INSERT INTO notes (job, n, what, pid, at) VALUES (?, ?, ?, ?, ?)");
const start = log.prepare("INSERT INTO running (job, pid) VALUES (?, ?)");
const end = log.prepare("DELETE FROM running WHERE job = ? AND pid = ?");
const running = log.prepare<{ pid: number }, []>("SELECT pid FROM running");
const most = log.prepare("UPDATE most SET n = max(n, ?)");

/** One that was killed runs nothing any more, though its parent may not have noticed. */
function lives(pid: number): boolean {
  try {
    const [state] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1) ?? "";
    return state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}

const begin = log.transaction((job: number, n: number) => {
  insert.run(job, n, "begin", process.pid, Date.now());
  start.run(job, process.pid);
  most.run(running.all().filter(({ pid }) => lives(pid)).length);
});
const finish = log.transaction((job: number, n: number) => {
  insert.run(job, n, "end", process.pid, Date.now());
  end.run(job, process.pid);
});

const db = open(path, { wake: { safetyInterval: false } });
db.queue<{ readonly n: number }>("q", { backoff: { type: "fixed", base: 1 } }).work(
  async (job) => {
    begin.immediate(job.id, job.payload.n);
    await Bun.sleep(job.id % 7);
    finish.immediate(job.id, job.payload.n);
    if (job.id % 11 === 0 && job.attempt === 1) throw new Error("once more");
  },
  { concurrency: Number(concurrency) },
);
say("ready");
