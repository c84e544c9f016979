// honkbun beside what people would pick instead: every peer answers every question, in turn, so many rounds, each in a process of its
// own; the medians become a table. Arguments: questions to ask (default: all). BENCH_SCALE and BENCH_ROUNDS make it shorter; with
// BENCH_OUTPUT the table is written to that path, as Markdown (.md) and as JSON (.json).
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { median } from "../support.ts";
import { PEERS } from "./peers.ts";
import { QUESTIONS } from "./questions.ts";
import { startPostgres, startRedis } from "./servers.ts";

const ROUNDS = Number(Bun.env.BENCH_ROUNDS ?? 5);
/** Milliseconds that one measurement may take. */
const TIMEOUT = 120_000;

await using redis = await startRedis();
await using postgres = await startPostgres();
if (redis === null) console.log("without BullMQ: install redis-server");
if (postgres === null) console.log("without pg-boss: install postgresql");

const asked = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(QUESTIONS);
const figures: Record<string, Record<string, number | null>> = {};
for (const question of asked) {
  const found: Record<string, number[]> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const peer of Object.keys(PEERS)) {
      const figure = await measure(question, peer);
      if (figure !== null) found[peer] = [...(found[peer] ?? []), figure];
    }
  }
  figures[question] = Object.fromEntries(
    Object.keys(PEERS).map((peer) => [peer, found[peer] === undefined ? null : median(found[peer])]),
  );
  console.log(table([question]));
}
const machine = `${cpus().length} cores, ${cpus()[0]?.model}; Bun ${Bun.version}; medians of ${ROUNDS} rounds`;
const path = Bun.env.BENCH_OUTPUT;
if (path !== undefined) {
  const date = new Date().toISOString().slice(0, 10);
  await Bun.write(
    `${path}.json`,
    `${JSON.stringify({ date, machine, unit: "jobs per second", figures }, null, 2)}\n`,
  );
  await Bun.write(`${path}.md`, `${table(asked)}\n\n${machine}; ${date}\n`);
}

async function measure(question: string, peer: string): Promise<number | null> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-bench-"));
  try {
    const child = Bun.spawn(
      [
        process.execPath,
        join(import.meta.dir, "measure.ts"),
        question,
        peer,
        folder,
        `${redis?.address ?? ""}`,
        postgres?.address ?? "",
      ],
      { stdout: "pipe", stderr: "inherit", timeout: TIMEOUT },
    );
    const [out, code] = await Promise.all([child.stdout.text(), child.exited]);
    if (code !== 0) throw new Error(`${question} of ${peer} ended with code ${code}`);
    return JSON.parse(out.trim().split("\n").at(-1) ?? "null");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Rows are peers, columns questions; how many times as fast honkbun is stands behind each figure. */
function table(questions: readonly string[]): string {
  const head = ["jobs per second", ...questions.map((question) => QUESTIONS[question]?.title ?? question)];
  const rows = Object.entries(PEERS).map(([key, { name }]) => [
    name,
    ...questions.map((question) =>
      cell(figures[question]?.[key] ?? null, figures[question]?.honkbun ?? null),
    ),
  ]);
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  return lines.join("\n");
}

function cell(figure: number | null, ours: number | null): string {
  if (figure === null) return "not installed";
  const rounded = Number(figure.toPrecision(3)).toLocaleString("en");
  return ours === null || ours === figure ? rounded : `${rounded} (×${(ours / figure).toPrecision(2)})`;
}
