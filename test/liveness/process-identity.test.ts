import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";

import { judge, ownIdentity, type ProcessIdentity } from "../../src/liveness/process-identity.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const own = ownIdentity() as ProcessIdentity;

/** What another process says of itself, started by a command line. */
async function identityBy(...prefix: string[]): Promise<ProcessIdentity | null> {
  const file = new URL("../../src/liveness/process-identity.ts", import.meta.url).pathname;
  const child = Bun.spawn(
    [...prefix, process.execPath, "-e", `console.log(JSON.stringify(require("${file}").ownIdentity()))`],
    { stdout: "pipe", stderr: "inherit" },
  );
  return JSON.parse(await child.stdout.text());
}

const startOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ")[19] ?? "";
const stateOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.[0] ?? "";

describe("a process is judged", () => {
  test("alive while it runs, also from elsewhere", async () => {
    expect(judge(own)).toBe("alive");
    await using child = Bun.spawn(["sleep", "60"]);
    expect(judge({ ...own, pid: child.pid, startedAt: startOf(child.pid) })).toBe("alive");
    child.kill();
  });

  test("alive while it is suspended", async () => {
    const child = Bun.spawn(["sleep", "60"]);
    const identity = { ...own, pid: child.pid, startedAt: startOf(child.pid) };
    child.kill("SIGSTOP");
    await eventually(() => stateOf(child.pid) === "T", "it is suspended");
    expect(judge(identity)).toBe("alive");
    child.kill("SIGKILL");
    await child.exited;
    expect(judge(identity)).toBe("dead");
  });

  test("dead when another one has its pid", () => {
    expect(judge({ ...own, startedAt: String(Number(own.startedAt) - 1) })).toBe("dead");
  });

  test("dead when it has ended, though its parent has not noticed", async () => {
    // The shell becomes a program that waits for nobody.
    const parent = Bun.spawn(["sh", "-c", "sleep 0.2 & echo $!; exec sleep 60"], { stdout: "pipe" });
    const { value } = await parent.stdout.getReader().read();
    const pid = Number(new TextDecoder().decode(value));
    const identity = { ...own, pid, startedAt: startOf(pid) };
    expect(judge(identity)).toBe("alive");
    await eventually(() => stateOf(pid) === "Z", "it has ended");
    expect(judge(identity)).toBe("dead");
    parent.kill();
  });

  test("unknown when it was started in another boot, pid namespace or time namespace", () => {
    expect(judge({ ...own, scope: own.scope.replace(/^\S+/, "other-boot") })).toBe("unknown");
    expect(judge({ ...own, scope: own.scope.replace(/pid:\S+/, "pid:[1]") })).toBe("unknown");
    expect(judge({ ...own, scope: own.scope.replace(/time:\S+/, "time:[1]") })).toBe("unknown");
  });

  test("unknown when we may not ask for it", async () => {
    await using judge = new Process("judge", "unprivileged");
    // Of another user's, when we are root; else that of root which is always there.
    const pid = process.getuid?.() === 0 ? process.pid : 1;
    expect(await judge.ask<string>({ pid, startedAt: "another time" })).toBe("unknown");
  });

  test("unknown when its /proc cannot be read", async () => {
    using folder = new Folder();
    const hide = 'mount --bind "$0" /proc/$1 && shift && exec "$@"';
    const under = ["unshare", "--mount", "sh", "-c", hide, folder.path, String(process.pid)];
    await using judge = new Process({ under, name: "judge" });
    expect(await judge.ask<string>({ pid: process.pid, startedAt: "another time" })).toBe("unknown");
    await using sighted = new Process("judge");
    expect(await sighted.ask<string>({ pid: process.pid, startedAt: "another time" })).toBe("dead");
  });

  test("unknown when we do not know who we are", () => {
    expect(judge({ ...own, pid: 2 ** 22 - 1 }, null)).toBe("unknown");
  });
});

describe("a process", () => {
  test("is told from all others by start, boot and namespaces", () => {
    expect(own.pid).toBe(process.pid);
    expect(own.startedAt).toBe(startOf(process.pid));
    expect(own.scope).toMatch(/^[0-9a-f-]{36} pid:\[\d+\] time:\[\d+\]$/);
  });

  test("says another scope in a pid namespace of its own, and nothing with a /proc that is not its own", async () => {
    const inside = await identityBy("unshare", "--pid", "--fork", "--mount-proc");
    expect(inside?.scope).toMatch(/pid:\[\d+\]/);
    expect(inside?.scope).not.toBe(own.scope);
    expect(await identityBy("unshare", "--pid", "--fork")).toBeNull();
  });

  test("says another scope in a time namespace of its own", async () => {
    const inside = await identityBy("unshare", "--time", "--fork");
    expect(inside?.scope).toMatch(/time:\[\d+\]$/);
    expect(inside?.scope).not.toBe(own.scope);
  });
});
