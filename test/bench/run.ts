// All benchmarks: honkbun beside its peers (peers/run.ts), and then what it is held to, a script of this folder each. Arguments: which
// of the scripts, "peers" among them (default: all). With BENCH_OUTPUT the tables are written to that path, as Markdown (.md) and as
// JSON (.json).
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Verdict } from "./support.ts";

const PEERS = "peers";
const NO_BENCHMARKS = new Set(["run", "support"]);

const scripts = [...new Bun.Glob("*.ts").scanSync(import.meta.dir)]
  .map((file) => file.replace(/\.ts$/, ""))
  .filter((name) => !NO_BENCHMARKS.has(name))
  .sort();
const asked = process.argv.length > 2 ? process.argv.slice(2) : [PEERS, ...scripts];
const verdicts: Record<string, readonly Verdict[]> = {};
for (const name of asked) {
  console.log(`\n== ${name}`);
  verdicts[name] = await run(name);
}
const bars = [
  "| benchmark | figure | found | asked for |",
  "| --- | --- | --- | --- |",
  ...Object.entries(verdicts).flatMap(([name, all]) =>
    all.map(({ what, value, rule, target, met }) => {
      const found = value === null ? "nothing" : Number(value.toPrecision(3)).toLocaleString("en");
      return `| ${name} | ${what} | ${met ? found : `**${found}**`} | ${rule} ${target} |`;
    }),
  ),
].join("\n");
console.log(`\n${bars}`);

const output = Bun.env.BENCH_OUTPUT;
if (output !== undefined) {
  const [json, markdown] = [Bun.file(`${output}.json`), Bun.file(`${output}.md`)];
  const ofPeers = asked.includes(PEERS);
  const found = ofPeers ? await json.json() : {};
  await json.write(`${JSON.stringify({ ...found, bars: verdicts }, null, 2)}\n`);
  await markdown.write(`${ofPeers ? `${await markdown.text()}\n` : ""}${bars}\n`);
}

/** What a benchmark prints goes to the terminal. Resolves with its verdicts. */
async function run(name: string): Promise<readonly Verdict[]> {
  const script = join(import.meta.dir, name === PEERS ? "peers/run.ts" : `${name}.ts`);
  const path = join(tmpdir(), `honkbun-verdicts-${process.pid}`);
  const child = Bun.spawn([process.execPath, script], {
    stdout: "inherit",
    stderr: "inherit",
    env: { ...Bun.env, BENCH_VERDICTS: path },
  });
  if ((await child.exited) !== 0) throw new Error(`${name} ended with code ${child.exitCode}`);
  const file = Bun.file(path);
  const lines = (await file.exists()) ? (await file.text()).trim().split("\n") : [];
  rmSync(path, { force: true });
  return lines.map((line) => JSON.parse(line));
}
