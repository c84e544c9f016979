import { describe, expect, test } from "bun:test";
import { closeSync, cpSync, openSync, readFileSync, symlinkSync, writeFileSync, writeSync } from "node:fs";
import { resolve } from "node:path";

import { open } from "../../src/index.ts";
import { eventually, within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

const ROOT = resolve(import.meta.dir, "../..");
const PROJECTS = resolve(import.meta.dir, "../support/projects");

describe("bun build --compile", () => {
  test.skipIf(process.platform !== "linux")(
    "makes one file that works, its threads included",
    async () => {
      using folder = new Folder();
      const binary = folder.file("worker");
      const entries = ["main.ts", "handler.ts"].map((name) => resolve(PROJECTS, "compiled", name));
      const build = Bun.spawn([process.execPath, "build", "--compile", ...entries, "--outfile", binary], {
        stdout: "ignore",
        stderr: "pipe",
      });
      expect({ code: await build.exited, errors: await build.stderr.text() }).toEqual({
        code: 0,
        errors: "",
      });
      // From a folder, and with an environment, in which there is nothing else.
      const run = Bun.spawn([binary, folder.file()], {
        cwd: folder.path,
        env: {},
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, errors, code] = await within(
        Promise.all([run.stdout.text(), run.stderr.text(), run.exited]),
        "the binary ends",
      );
      expect({ code, errors, out: out.trim() }).toEqual({
        code: 0,
        errors: "",
        out: '{"results":[2,42],"nights":3}',
      });
    },
    60_000,
  );
});

/** A program under `bun --hot` or `bun --watch`, in a copy that can be edited. */
class Reloaded implements AsyncDisposable {
  readonly #folder = new Folder();
  readonly #main: string;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly lines: Record<string, unknown>[] = [];
  #version = 0;

  constructor(mode: "--hot" | "--watch") {
    cpSync(resolve(PROJECTS, "reloaded"), this.#folder.file("test/support/projects/reloaded"), {
      recursive: true,
    });
    for (const name of ["src", "node_modules"]) symlinkSync(resolve(ROOT, name), this.#folder.file(name));
    this.#main = this.#folder.file("test/support/projects/reloaded/main.ts");
    this.#child = Bun.spawn([process.execPath, mode, "--no-clear-screen", this.#main], {
      env: { ...process.env, FILE: this.file },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    void this.#read();
  }

  get file(): string {
    return this.#folder.file();
  }

  /** Edits the program, and waits until it has begun anew. */
  async reload(): Promise<void> {
    const version = String(++this.#version);
    const source = readFileSync(this.#main, "utf8").replace(/version = "\d+"/, `version = "${version}"`);
    // In place: Bun may take a file that is emptied, and then written, for two changes, and reload twice.
    const file = openSync(this.#main, "r+");
    writeSync(file, source, 0);
    closeSync(file);
    await this.begun(version);
  }

  async begun(version: string): Promise<void> {
    await eventually(
      () => this.lines.some((line) => line.version === version && "begins" in line),
      `version ${version} begins`,
    );
  }

  async #read(): Promise<void> {
    let text = "";
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop() ?? "";
      this.lines.push(...lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    this.#folder[Symbol.dispose]();
  }
}

describe("bun --hot", () => {
  test("leaves no second claim loop behind, nor a second listener or scheduler, nor a lock", async () => {
    await using program = new Reloaded("--hot");
    await program.begun("0");
    using db = open(program.file, { wake: { safetyInterval: false, mode: "watch" } });
    for (let n = 1; n <= 3; n++) await program.reload(); // each takes the lock that the one before has held
    const from = program.lines.length;
    const jobs = Array.from({ length: 40 }, (_, n) => n);
    const told = (what: string): unknown[] =>
      program.lines
        .slice(from)
        .filter((line) => what in line)
        .map((line) => [line.version, line[what]]);
    for (const job of jobs) {
      db.queue("q").enqueue(job);
      db.notify("channel", job);
      await Bun.sleep(1);
    }
    await eventually(() => told("ran").length >= 40 && told("heard").length >= 40, "all is told");
    await Bun.sleep(50);
    expect(told("ran")).toEqual(jobs.map((job) => ["3", job]));
    expect(told("heard")).toEqual(jobs.map((job) => ["3", job]));
    expect(db.locks.list().map(({ name }) => name)).toEqual(["honkbun-scheduler", "l"]);
    expect(db.sqlite.query("SELECT name FROM _honkbun_lock_waiters").all()).toEqual([]);
  }, 60_000);
});

describe("bun --watch", () => {
  test("starts anew with nothing held by the program before, though it is the same process", async () => {
    await using program = new Reloaded("--watch");
    await program.begun("0");
    using db = open(program.file, { wake: { safetyInterval: false, mode: "watch" } });
    for (let n = 1; n <= 3; n++) await program.reload(); // each takes the lock that the one before has held
    const tokens = program.lines.map((line) => line.token as number);
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    db.queue("q").enqueue(1);
    await eventually(() => program.lines.some((line) => "ran" in line), "it is run");
    expect(program.lines.filter((line) => "ran" in line)).toEqual([{ version: "3", ran: 1 }]);
    await eventually(
      () => db.locks.list().some(({ name }) => name === "honkbun-scheduler"),
      "its scheduler leads",
    );
  }, 60_000);
});

describe("Worker threads of Bun's", () => {
  test("open the same file, each by itself, and share its jobs", async () => {
    using folder = new Folder();
    using db = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
    db.sqlite.run("CREATE TABLE runs (job INTEGER, thread INTEGER)");
    const source = `
      import { open } from ${JSON.stringify(resolve(ROOT, "src/index.ts"))};
      const db = open(${JSON.stringify(folder.file())}, { wake: { safetyInterval: false, mode: "watch" } });
      const queue = db.queue("q");
      self.onmessage = ({ data: thread }) => {
        queue.work(async (job) => {
          await Bun.sleep(1);
          db.transaction((tx) => {
            tx.run("INSERT INTO runs VALUES (?, ?)", [job.payload, thread]);
            job.ack();
          });
        });
        postMessage("ready");
      };`;
    writeFileSync(folder.file("thread.ts"), source);
    const threads = Array.from({ length: 3 }, () => new Worker(folder.file("thread.ts")));
    const ready = threads.map(
      (thread) => new Promise<void>((resolve) => (thread.onmessage = () => resolve())),
    );
    for (const [index, thread] of threads.entries()) thread.postMessage(index);
    await within(Promise.all(ready), "all are ready");
    const runs = (): { job: number; thread: number }[] =>
      db.sqlite.query<{ job: number; thread: number }, []>("SELECT * FROM runs ORDER BY job").all();
    for (let n = 0; n < 200; n++) {
      db.queue("q").enqueue(n);
      if (n % 10 === 0) await Bun.sleep(2);
    }
    await eventually(() => runs().length >= 200, "all are run");
    expect(runs().map(({ job }) => job)).toEqual(Array.from({ length: 200 }, (_, n) => n));
    expect(new Set(runs().map(({ thread }) => thread)).size).toBe(3);
    // One that ends in the midst of a job leaves it to the others within a second.
    for (const thread of threads) thread.terminate();
  });
});
