// Tasks: what is enqueued and what is returned are typed by one contract. This process only knows the contract; another one
// has the handlers, and runs them. Run it with: bun examples/tasks.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Honkbun, JobFailedError, open, type Task } from "honkbun";
import { z } from "zod";

interface Document {
  readonly file: string;
}
interface Summary {
  readonly words: number;
}

/** The contract, which both processes import. */
function contract(db: Honkbun): {
  summarize: Task<Document, Document, Summary>;
  cleanUp: Task<void, void, unknown>;
} {
  return {
    summarize: db.task("summarize", {
      input: z.object({ file: z.string() }),
      output: z.object({ words: z.number() }),
      timeout: "30s",
      maxAttempts: 3,
      backoff: { base: 10 },
    }),
    cleanUp: db.task("clean-up", { keepResult: false }),
  };
}

/** The worker process. */
async function worker(path: string): Promise<void> {
  await using db = open(path);
  const { summarize, cleanUp } = contract(db);
  summarize.handle(async ({ file }, job) => {
    if (file === "missing.txt") throw new Error(`${file} is not there`);
    for (const percent of [50, 100]) {
      await Bun.sleep(10);
      job.progress({ percent });
    }
    return { words: file.length * 100 };
  });
  cleanUp.handle(() => console.log("worker   has cleaned up"));
  await db.work({ concurrency: 4, signals: true }).stopped;
  console.log("worker   has stopped");
}

/** The process that wants something done. */
async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-tasks-"));
  const path = join(folder, "app.db");
  const db = open(path);
  const { summarize, cleanUp } = contract(db);
  const child = Bun.spawn([process.execPath, import.meta.path, path], {
    stdout: "inherit",
    stderr: "inherit",
  });

  console.log(`main     report.txt has ${(await summarize.run({ file: "report.txt" })).words} words`);

  const run = summarize.enqueue({ file: "novel.txt" }, { priority: 10 });
  for await (const { state, progress } of summarize.job(run.id).watch()) {
    console.log(`main     novel.txt is ${state} ${JSON.stringify(progress)}`);
  }
  console.log(`main     novel.txt has ${(await run.result({ timeout: "1m" })).words} words`);

  try {
    await summarize.run({ file: "missing.txt" });
  } catch (error) {
    if (!(error instanceof JobFailedError)) throw error;
    console.log(`main     ${error.errors.length} attempts: ${error.errors.at(-1)?.message}`);
  }

  const cancelled = summarize.enqueue({ file: "never.txt" }, { delay: "1h" });
  console.log(`main     cancelled: ${cancelled.cancel()}`);
  cleanUp.enqueue();

  while (cleanUp.queue.list().length > 0) await Bun.sleep(5);
  child.kill("SIGTERM");
  await child.exited;
  db.close();
  rmSync(folder, { recursive: true });
}

const [path] = process.argv.slice(2);
await (path === undefined ? main() : worker(path));
