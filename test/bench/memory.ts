// How much memory does a process take with an idle worker on a file with many jobs, above a process that only runs Bun?
import { Folder } from "../support/folder.ts";
import { say } from "../support/programs/channel.ts";
import { payload, rounds, scaled, spawnRole, verdict } from "./support.ts";

const JOBS = scaled(1_000_000, 1_000);
const MEGABYTE = 1_000_000;

const [role, path = ""] = process.argv.slice(2);
if (role === undefined) await measure();
else {
  if (role === "worker") {
    const { open } = await import("honkbun");
    open(path)
      .queue("emails")
      .work(() => {}, { concurrency: 10 });
  }
  setInterval(() => {}, 1_000);
  setTimeout(() => {
    Bun.gc(true);
    say(process.memoryUsage.rss() / MEGABYTE);
  }, 1_000);
}

async function measure(): Promise<void> {
  const { open } = await import("honkbun"); // which a bare process does not
  using folder = new Folder();
  {
    using db = open(folder.file());
    for (let from = 0; from < JOBS; from += 50_000) {
      const jobs = Array.from({ length: Math.min(50_000, JOBS - from) }, (_, n) => payload(from + n));
      db.queue("emails").enqueueMany(jobs, { delay: "1d" });
    }
  }
  const figures = await rounds(`an idle worker, ${JOBS} jobs`, ["MB", "above bare Bun"], async () => {
    await using bare = spawnRole("bare");
    const without = await bare.read<number>();
    await using worker = spawnRole("worker", folder.file());
    const taken = await worker.read<number>();
    return { "bare Bun": [without, 0], worker: [taken, taken - without] };
  });
  verdict("megabytes above bare Bun", figures("worker", "above bare Bun"), "at most", 30);
}
