// A worker in a single file: it sends e-mails, ten at once, tries again what fails, and stops in order on SIGTERM. Run it
// with: bun examples/worker.ts [file]. Without a file it brings its own e-mails, and stops when they are sent.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open, UnrecoverableError } from "honkbun";

interface Email {
  readonly to: string;
}

const [path] = process.argv.slice(2);
const folder = path === undefined ? mkdtempSync(join(tmpdir(), "honkbun-worker-")) : undefined;
await using db = open(path ?? join(folder ?? "", "app.db"));
const emails = db.queue<Email>("emails", { maxAttempts: 10, backoff: { base: 20, max: "1h" } });

/** Stands for a mail service: busy for some, down at first for others. */
const calls = new Map<string, number>();
async function send({ to }: Email, signal: AbortSignal): Promise<{ status: number }> {
  signal.throwIfAborted();
  await Bun.sleep(5);
  const call = (calls.get(to) ?? 0) + 1;
  calls.set(to, call);
  if (to.startsWith("noone")) return { status: 422 };
  if (to.startsWith("busy") && call === 1) return { status: 429 };
  return { status: to.startsWith("down") && call < 3 ? 503 : 202 };
}

const worker = emails.work(
  async (job) => {
    const { status } = await send(job.payload, job.signal);
    if (status === 429) return job.snooze(30); // later, without using an attempt
    if (status === 422) throw new UnrecoverableError(`there is no ${job.payload.to}`);
    if (status !== 202) throw new Error(`the mail service answered ${status}`);
    console.log(`sent     to ${job.payload.to}, attempt ${job.attempt}`);
  },
  { concurrency: 10, timeout: "30s", signals: true },
);
db.on("job:retried", ({ id, attempt, error }) =>
  console.log(`failed   job ${id}, attempt ${attempt}: ${error}`),
);
db.on("job:dead", ({ id, error }) => console.log(`gave up  job ${id}: ${error}`));

if (folder !== undefined) {
  const all = ["alice", "busy-bob", "down-dora", "noone", "carol"].map((name) => ({
    to: `${name}@example.com`,
  }));
  emails.enqueueMany(all);
  for (let left = all.length; left > 0; await Bun.sleep(5)) {
    const { ready, delayed, processing } = emails.counts();
    left = ready + delayed + processing;
  }
  process.kill(process.pid, "SIGTERM");
}
await worker.stopped;
console.log(`stopped  with ${emails.dead.list().length} in the dead letters`);
if (folder !== undefined) {
  db.close();
  rmSync(folder, { recursive: true });
}
