import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

import type { Server } from "./place.ts";

/** A server that was started for the benchmarks, from Debian's packages, and keeps its data in a folder of its own. */
export interface StartedServer extends Server, AsyncDisposable {}

/** Redis, with an append-only file that is synced each second; null where it is not installed (`redis-server`). */
export async function startRedis(): Promise<StartedServer | null> {
  const program = Bun.which("redis-server");
  if (program === null) return null;
  const [folder, port] = [temporaryFolder(), await freePort()];
  const options = {
    port,
    bind: "127.0.0.1",
    dir: folder,
    appendonly: "yes",
    appendfsync: "everysec",
    save: "",
  };
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = Bun.spawn([program, ...flags], { stdout: "ignore", stderr: "inherit" });
  return serverOf(`redis://127.0.0.1:${port}`, folder, child, () => canConnect(port));
}

/** PostgreSQL with its own settings; null where it is not installed (`postgresql`). */
export async function startPostgres(): Promise<StartedServer | null> {
  const programs = [
    ...new Bun.Glob("/usr/lib/postgresql/*/bin").scanSync({ onlyFiles: false, absolute: true }),
  ];
  const bin = programs.sort().at(-1);
  if (bin === undefined) return null;
  const [folder, port] = [temporaryFolder(), await freePort()];
  const data = join(folder, "data");
  // It does not run as root.
  const isRoot = userInfo().uid === 0;
  const as = (...command: string[]): string[] =>
    isRoot ? ["runuser", "-u", "postgres", "--", ...command] : command;
  if (isRoot) Bun.spawnSync(["chown", "postgres", folder]);
  const initialized = Bun.spawnSync(
    as(`${bin}/initdb`, "--pgdata", data, "--auth", "trust", "--username", "bench"),
    { cwd: folder, stdout: "ignore", stderr: "pipe" },
  );
  if (initialized.exitCode !== 0) throw new Error(`initdb: ${initialized.stderr}`);
  const child = Bun.spawn(
    as(`${bin}/postgres`, "-D", data, "-p", String(port), "-k", folder, "-h", "127.0.0.1"),
    {
      cwd: folder,
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  const url = `postgres://bench@127.0.0.1:${port}/postgres`;
  const isReady = (): boolean =>
    Bun.spawnSync([`${bin}/pg_isready`, "-h", "127.0.0.1", "-p", String(port)], { stdout: "ignore" })
      .exitCode === 0;
  return serverOf(url, folder, child, async () => isReady());
}

async function serverOf(
  url: string,
  folder: string,
  child: Bun.Subprocess,
  isReady: () => Promise<boolean>,
): Promise<StartedServer> {
  for (let tries = 0; !(await isReady()); tries++) {
    if (child.exitCode !== null || tries > 300) throw new Error("a server for the benchmarks does not start");
    await Bun.sleep(100);
  }
  return {
    url,
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await Promise.race([child.exited, Bun.sleep(5_000).then(() => child.kill("SIGKILL"))]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "honkbun-bench-"));
}

async function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address();
    server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
  });
  return promise;
}

async function canConnect(port: number): Promise<boolean> {
  try {
    (await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } })).end();
    return true;
  } catch {
    return false;
  }
}
