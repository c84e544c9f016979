import { readdirSync, readFileSync } from "node:fs";

import { scaled } from "../../support.ts";
import { type Place, spawnHelper } from "../place.ts";
import { queueNames, withQueue } from "../queues.ts";
import type { Topic } from "../topic.ts";
import { numbers } from "./rate.ts";

const JOBS = scaled(1_000_000, 1_000);
const BULK = 1_000;
const MEGABYTE = 1_000_000;

/** Of a process whose worker is busy with one job, while the others wait. */
export const memory: Topic = {
  title: `${JOBS.toLocaleString("en")} queued jobs`,
  unit: "megabytes",
  isLess: true,
  subjects: { ...queueNames(({ hasHandlers }) => hasHandlers), nothing: "a Bun process that waits" },
  questions: {
    memory: {
      columns: ["the worker's process", "with its server"],
      rounds: 1,
      measure: async (subject, place) => {
        if (subject === "nothing") return figures(0);
        await using filler = spawnHelper("filler");
        if ((await filler.exited) !== 0) return null;
        return withQueue(subject, place, async (queue) => {
          const begun = Promise.withResolvers<void>();
          queue.work(1, () => {
            begun.resolve();
            return new Promise(() => {});
          });
          await begun.promise;
          return figures(serverMemory(subject, place));
        });
      },
      helpers: { filler: fill },
    },
  },
};

async function figures(ofServer: number): Promise<number[]> {
  await Bun.sleep(scaled(2_000, 50));
  Bun.gc(true);
  const own = process.memoryUsage.rss();
  return [own, own + ofServer].map((bytes) => bytes / MEGABYTE);
}

async function fill(subject: string, place: Place): Promise<void> {
  const isDone = await withQueue(subject, place, async (queue) => {
    for (let n = 0; n < JOBS; n += BULK) await queue.addMany(numbers(BULK, n));
    return true;
  });
  process.exit(isDone === null ? 1 : 0);
}

/** Bytes that a server and its processes have for themselves, and their share of what they have together. */
function serverMemory(subject: string, { redis, postgres }: Place): number {
  const server = subject === "bullmq" ? redis : subject === "pgBoss" ? postgres : undefined;
  if (server === undefined) return 0;
  const parents = new Map(
    readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((name) => [Number(name), parentOf(name)]),
  );
  const isOfServer = (pid: number): boolean =>
    pid === server.pid || (parents.has(pid) && isOfServer(parents.get(pid) ?? 0));
  let kilobytes = 0;
  for (const pid of parents.keys()) {
    if (!isOfServer(pid)) continue;
    kilobytes += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0);
  }
  return kilobytes * 1_024;
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0; // it has ended
  }
}
