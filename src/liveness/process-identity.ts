import { readFileSync, readlinkSync } from "node:fs";

/** What tells a process, or a thread of one, from every other, also from one that gets its pid later. */
export interface ProcessIdentity {
  /** On Linux the id of the thread, which `kill` and /proc take as they take a process's: that of the main thread is both. */
  readonly pid: number;
  /** When it was started, in a form that is only compared. */
  readonly startedAt: string;
  /** The boot of the machine, the pid namespace and the time namespace, in which alone the others mean anything. */
  readonly scope: string;
}

export type Judgement = "alive" | "dead" | "unknown";

/** This thread, where threads can be told, or this process; null where the system does not tell, or tells of another one. */
export const ownIdentity: () => ProcessIdentity | null = once(() => {
  try {
    return process.platform === "linux" ? linuxIdentity() : otherIdentity();
  } catch {
    return null;
  }
});

/**
 * Whether a process is still there. Dead only when that is certain: where the pid means the same to us, and there is no
 * such process, or it ended and waits for its parent, or it is another one by now.
 */
export function judge(other: ProcessIdentity, own: ProcessIdentity | null = ownIdentity()): Judgement {
  if (own === null || other.scope !== own.scope) return "unknown";
  try {
    process.kill(other.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH" ? "dead" : "unknown";
  }
  try {
    const { startedAt, hasEnded } = look(other.pid);
    return hasEnded || startedAt !== other.startedAt ? "dead" : "alive";
  } catch {
    return "unknown"; // it may have ended since, or is hidden from us
  }
}

function linuxIdentity(): ProcessIdentity | null {
  // A /proc of another pid namespace tells of other processes under our pids.
  if (parseStat(readFileSync("/proc/self/stat", "utf8")).pid !== process.pid) return null;
  const { pid, startedAt } = parseStat(readFileSync("/proc/thread-self/stat", "utf8"));
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const namespaces = [readlinkSync("/proc/self/ns/pid"), readTimeNamespace()];
  return { pid, startedAt, scope: [boot, ...namespaces].join(" ") };
}

/** Start times are counted from the boot as the time namespace sees it. Kernels before 5.6 have none. */
function readTimeNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/time");
  } catch {
    return "time:none";
  }
}

function otherIdentity(): ProcessIdentity | null {
  const boot = run("sysctl", "-n", "kern.bootsessionuuid");
  return { pid: process.pid, startedAt: look(process.pid).startedAt, scope: `${process.platform} ${boot}` };
}

function look(pid: number): { readonly startedAt: string; readonly hasEnded: boolean } {
  if (process.platform === "linux") return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
  const [state = "", ...startedAt] = run("ps", "-o", "state=,lstart=", "-p", String(pid)).split(/\s+/);
  return { startedAt: startedAt.join(" "), hasEnded: state.startsWith("Z") };
}

/** The name of the program stands in parentheses, and may itself have any. */
function parseStat(text: string): {
  readonly pid: number;
  readonly startedAt: string;
  readonly hasEnded: boolean;
} {
  const [state = "", ...fields] = text
    .slice(text.lastIndexOf(")") + 2)
    .trim()
    .split(" ");
  const startedAt = fields[18]; // field 22 of the line
  if (startedAt === undefined) throw new Error(`cannot read ${text}`);
  return { pid: Number.parseInt(text, 10), startedAt, hasEnded: state === "Z" || state === "X" };
}

function run(...command: string[]): string {
  const { stdout, success } = Bun.spawnSync(command);
  const text = stdout.toString().trim();
  if (!success || text === "") throw new Error(`${command.join(" ")} failed`);
  return text;
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
