// honkbun beside what people would pick instead: every subject answers every question, in turn, so many rounds, each time in a process
// of its own; the medians become tables. Arguments: topics (default: all). BENCH_SCALE and BENCH_ROUNDS make it shorter; with
// BENCH_OUTPUT the tables are written to that path, as Markdown (.md) and as JSON (.json).
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { median } from "../support.ts";
import type { Place } from "./place.ts";
import { startPostgres, startRedis } from "./servers.ts";
import type { Topic } from "./topic.ts";
import { TOPICS } from "./topics.ts";

const ROUNDS = Number(Bun.env.BENCH_ROUNDS ?? 5);
/** Milliseconds that one measurement may take. */
const TIMEOUT = 300_000;

/** By question and subject; null where there was nothing to measure. */
type Figures = Record<string, Record<string, readonly number[] | null>>;

await using redis = await startRedis();
await using postgres = await startPostgres();
if (redis === null) console.log("without Redis and BullMQ: install redis-server");
if (postgres === null) console.log("without PostgreSQL and pg-boss: install postgresql");

const asked = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(TOPICS);
const [found, tables]: [Record<string, { unit: string; figures: Figures }>, string[]] = [{}, []];
for (const key of asked) {
  const topic = TOPICS[key];
  if (topic === undefined)
    throw new RangeError(`there is no topic ${key}: ${Object.keys(TOPICS).join(", ")}`);
  const figures = await ask(key, topic);
  found[key] = { unit: topic.unit, figures };
  tables.push(table(topic, figures));
  console.log(`${tables.at(-1)}\n`);
}
const machine = `${cpus().length} cores, ${cpus()[0]?.model}; Bun ${Bun.version}; medians of ${ROUNDS} rounds`;
const path = Bun.env.BENCH_OUTPUT;
if (path !== undefined) {
  const date = new Date().toISOString().slice(0, 10);
  await Bun.write(`${path}.json`, `${JSON.stringify({ date, machine, topics: found }, null, 2)}\n`);
  await Bun.write(`${path}.md`, `${tables.join("\n\n")}\n\n${machine}; ${date}\n`);
}

async function ask(key: string, { subjects, questions }: Topic): Promise<Figures> {
  const figures: Figures = {};
  for (const [question, { rounds = ROUNDS }] of Object.entries(questions)) {
    const all: Record<string, (readonly number[])[]> = {};
    for (let round = 0; round < Math.min(rounds, ROUNDS); round++) {
      for (const subject of Object.keys(subjects)) {
        const one = await measure(key, question, subject);
        if (one !== null) all[subject] = [...(all[subject] ?? []), one];
      }
    }
    figures[question] = Object.fromEntries(
      Object.keys(subjects).map((subject) => [subject, medians(all[subject] ?? [])]),
    );
  }
  return figures;
}

/** Of each figure; null of none. */
function medians(all: readonly (readonly number[])[]): number[] | null {
  return all[0]?.map((_, index) => median(all.map((figures) => figures[index] ?? Number.NaN))) ?? null;
}

async function measure(topic: string, question: string, subject: string): Promise<number[] | null> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-bench-"));
  const place: Place = { folder, redis: redis ?? undefined, postgres: postgres ?? undefined };
  try {
    const child = Bun.spawn(
      [
        process.execPath,
        join(import.meta.dir, "measure.ts"),
        topic,
        question,
        subject,
        JSON.stringify(place),
      ],
      { stdout: "pipe", stderr: "inherit", timeout: TIMEOUT },
    );
    const [out, code] = await Promise.all([child.stdout.text(), child.exited]);
    if (code !== 0) throw new Error(`${topic}, ${question} of ${subject} ended with code ${code}`);
    return JSON.parse(out.trim().split("\n").at(-1) ?? "null");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** How many times as good honkbun is stands behind each figure. */
function table({ title, unit, isLess, subjects, questions }: Topic, figures: Figures): string {
  const head = [`${title} (${unit})`, ...Object.values(questions).flatMap(({ columns }) => columns)];
  const rows = Object.entries(subjects).map(([subject, name]) => [
    name,
    ...Object.entries(questions).flatMap(([question, { columns }]) =>
      columns.map((_, index) => {
        const [figure, ours] = [figures[question]?.[subject]?.[index], figures[question]?.honkbun?.[index]];
        if (figure === undefined) return "";
        const text = Number(figure.toPrecision(3)).toLocaleString("en");
        if (subject === "honkbun" || ours === undefined) return text;
        return `${text} (×${Number((isLess ? figure / ours : ours / figure).toPrecision(2))})`;
      }),
    ),
  ]);
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  return lines.join("\n");
}
