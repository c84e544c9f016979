// Runs jobs of the queue "q", a hundred at once, each as its script says, until it is killed. Argument: path.
import { open, UnrecoverableError } from "../../../src/index.ts";
import { say } from "./channel.ts";

/** What an attempt does; the last one ends the job. */
export type Step = "throw" | "hang" | "return" | "ack" | "too late" | "bury";

/** Of an error: that the script has asked for it. */
export const isScripted = (message: string): boolean =>
  message.startsWith("script: ") || message.includes("has been running");

export interface Payload {
  readonly script: readonly Step[];
}

if (import.meta.main) work(process.argv[2] ?? "");

function work(path: string): void {
  const db = open(path, { wake: { safetyInterval: false } });
  const queue = db.queue<Payload, string>("q", {
    visibilityTimeout: "1s",
    backoff: { type: "fixed", base: 5 },
    keepResult: true,
  });
  const run = db.sqlite.prepare("INSERT INTO runs (job, attempt, pid) VALUES (?, ?, ?)");
  queue.work(
    async (job) => {
      db.transaction(() => run.run(job.id, job.attempt, process.pid));
      // Attempts that a kill has cut off are not of the script.
      const failed = queue.get(job.id)?.errors.filter(({ message }) => isScripted(message)).length ?? 0;
      const step = job.payload.script[failed];
      await Bun.sleep(job.id % 10);
      if (step === "throw") throw new Error("script: throw");
      if (step === "bury") throw new UnrecoverableError("script: bury");
      if (step === "hang" || step === "too late") {
        if (!job.signal.aborted) {
          await new Promise((resolve) => job.signal.addEventListener("abort", resolve));
        }
        if (step === "hang") throw job.signal.reason;
      }
      if (step === "ack") {
        db.transaction((tx) => {
          tx.run("INSERT INTO effects (job) VALUES (?)", [job.id]);
          job.ack({ result: step });
        });
      }
      return step ?? "nothing";
    },
    { concurrency: 100, timeout: 100 },
  );
  say("ready");
}
