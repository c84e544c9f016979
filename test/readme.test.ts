import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

import * as honkbun from "../src/index.ts";
import * as testing from "../src/testing/index.ts";
import { within } from "./support/eventually.ts";
import { Folder } from "./support/folder.ts";

const ROOT = resolve(import.meta.dir, "..");
const README = readFileSync(resolve(ROOT, "README.md"), "utf8");

function blocks(language: string): string[] {
  return [...README.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(
    (match) => match[1] ?? "",
  );
}

/** Modules that other blocks use: their first line is a comment that names the file. */
const MODULES = new Map(
  blocks("ts").flatMap((block) =>
    [...block.matchAll(/^\/\/ (\S+\.ts)\n/g)].map(([, name = ""]) => [name, block] as const),
  ),
);

/** A folder of a user who has installed honkbun. */
function project(): Folder {
  const folder = new Folder();
  for (const [name, block] of MODULES) writeFileSync(folder.file(name), block);
  mkdirSync(folder.file("node_modules"));
  symlinkSync(ROOT, folder.file("node_modules/honkbun"));
  for (const dependency of ["zod", "@types", "drizzle-orm"]) {
    symlinkSync(resolve(ROOT, "node_modules", dependency), folder.file(`node_modules/${dependency}`));
  }
  const { compilerOptions } = JSON.parse(readFileSync(resolve(ROOT, "tsconfig.json"), "utf8"));
  const { paths: _, isolatedDeclarations: __, declaration: ___, ...options } = compilerOptions;
  writeFileSync(folder.file("tsconfig.json"), JSON.stringify({ compilerOptions: options }));
  // What the section on testing says of an application that opens its database at the top of a module.
  writeFileSync(folder.file(".env.test"), README.match(/^[A-Z_]+=:memory:$/m)?.[0] ?? "");
  return folder;
}

describe("README", () => {
  test("begins with the two commands", () => {
    const [commands] = blocks("sh");
    const lines = commands?.trim().split("\n") ?? [];
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toStartWith("npx ");
    const { scripts } = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8"));
    for (const line of lines) expect(scripts).toHaveProperty(line.split(" ").at(-1) ?? "");
  });

  test("names tests and benchmarks that are there", () => {
    const named = new Set(README.match(/\btest\/[a-z/-]+(?:\.test)?\.ts\b/g));
    expect(named.size).toBeGreaterThan(10);
    for (const path of named) expect([path, existsSync(resolve(ROOT, path))]).toEqual([path, true]);
  });

  const used = new Set(MODULES.values());
  for (const name of [...MODULES.keys()].filter((one) => one.endsWith(".test.ts"))) {
    test(`${name} type checks and passes`, async () => {
      using folder = project();
      const child = Bun.spawn([process.execPath, "test", "--check", `./${name}`], {
        cwd: folder.path,
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, code] = await within(Promise.all([child.stderr.text(), child.exited]), "its end");
      expect({ code, out }).toMatchObject({ code: 0, out: expect.stringContaining(" 0 fail") });
    }, 30_000);
  }

  for (const [index, block] of blocks("ts")
    .filter((one) => !used.has(one))
    .entries()) {
    test(`block ${index + 1} type checks and runs: ${block.split("\n").find((line) => line.startsWith("const"))}`, async () => {
      using folder = project();
      writeFileSync(folder.file("block.ts"), block);
      const child = Bun.spawn([process.execPath, "--check", "block.ts"], {
        cwd: folder.path,
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, errors, code] = await within(
        Promise.all([child.stdout.text(), child.stderr.text(), child.exited]),
        "the block's end",
      );
      expect({ code, out, errors }).toMatchObject({ code: 0, errors: "" });
      expect(out).not.toContain("error");
    }, 30_000);
  }

  test("names every exported error, and every option of open", () => {
    const source = readFileSync(resolve(ROOT, "src/database.ts"), "utf8");
    const options = source.slice(
      source.indexOf("interface OpenOptions"),
      source.indexOf("const OPEN_OPTIONS"),
    );
    const names = [...options.matchAll(/^ {2}readonly (\w+)\?/gm)].map(([, option]) => option ?? "");
    expect(names).toContain("busyTimeout");
    expect(names.filter((option) => !new RegExp(`^\\| \`${option}\` `, "m").test(README))).toEqual([]);
    const errors = Object.keys(honkbun).filter((name) => name.endsWith("Error"));
    expect(errors.filter((name) => !README.includes(`\`${name}\``))).toEqual([]);
  });

  test("names every method, and every option", () => {
    const methods = (file: string): string[] => {
      const source = readFileSync(resolve(ROOT, "src", file), "utf8");
      return [...source.matchAll(/^ {2}\/\*\*((?:(?!\*\/).)*)\*\/\n {2}(?:get )?(?!constructor)(\w+)[(<]/gms)]
        .filter(([, comment]) => !comment?.includes("@internal"))
        .map(([, , name]) => name ?? "");
    };
    const options = (file: string): string[] =>
      [...readFileSync(resolve(ROOT, "src", file), "utf8").matchAll(/^ {2}readonly (\w+)\?:/gm)].map(
        ([, name]) => name ?? "",
      );
    const all = [
      ...methods("database.ts"),
      ...["queue", "job", "dead-letters", "outbox"].flatMap((file) => methods(`queue/${file}.ts`)),
      ...["task", "task-run"].flatMap((file) => methods(`task/${file}.ts`)),
      ...["stream", "group"].flatMap((file) => methods(`stream/${file}.ts`)),
      ...["stream-options", "processor"].flatMap((file) => options(`stream/${file}.ts`)),
      ...["queue", "enqueue", "flow", "work"].flatMap((file) => options(`queue/${file}-options.ts`)),
      ...options("wait-options.ts"),
      ...options("queue/limits.ts"),
      ...options("task/task-options.ts"),
      ...methods("locks/lock.ts"),
      ...methods("capture/capture.ts"),
      ...options("capture/capture-options.ts"),
      ...options("locks/lock-options.ts"),
      ...methods("rate-limit/rate-limit.ts"),
      ...options("rate-limit/rate-limit.ts"),
      ...options("rate-limit/rate-limit-options.ts"),
      ...methods("scheduler/scheduler.ts"),
      ...options("scheduler/schedule-options.ts"),
      ...["drain", "matchers", "test-clock", "test-database"].flatMap((file) =>
        options(`testing/${file}.ts`),
      ),
      ...Object.keys(testing),
      ...["toHaveEnqueued", "toHavePublished", "toHaveNotified", "toBeEmpty"],
    ];
    for (const name of [
      "enqueueMany",
      "heartbeat",
      "purge",
      "visibilityTimeout",
      "concurrency",
      "handle",
      "uniqueFor",
      "rate",
      "guard",
      "burst",
      "trigger",
      "missed",
      "until",
      "uniqueKey",
    ])
      expect(all).toContain(name);
    expect(all.filter((name) => !new RegExp(`\\b${name}\\b`).test(README))).toEqual([]);
  });

  test("shows SQL that is a complete enqueue and a complete notify", () => {
    using db = honkbun.open(":memory:");
    db.sqlite.run(blocks("sql").join("\n"));
    expect(db.queue("emails").claimBatch(1)).toMatchObject([{ payload: { to: "alice@example.com" } }]);
    expect(db.sqlite.query("SELECT channel FROM _honker_notifications").all()).toEqual([
      { channel: "users:changed" },
    ]);
  });
});
