import type { OpenOptions } from "../../src/index.ts";
import { Process } from "./process.ts";

/** What came of a call. */
export interface Outcome {
  readonly value?: unknown;
  readonly code?: string;
  readonly message?: string;
  /** Milliseconds. */
  readonly took: number;
}

/** What has become of everything by now. */
export interface Report {
  /** Reported by `error` since the last report: how often, by where and code. */
  readonly errors: Readonly<Record<string, number>>;
  /** Loops that have ended, and how. */
  readonly ended: Readonly<Record<string, string>>;
  /** What came of calls that were not waited for. */
  readonly begun: Readonly<Record<string, Outcome>>;
  readonly unhandled: number;
  /** Milliseconds for which the event loop was held at most since the last report. */
  readonly longest: number;
  readonly ran: readonly number[];
  readonly heard: readonly number[];
  readonly consumed: readonly number[];
  readonly ticks: number;
  readonly mode: string;
}

/** Calls that write, of each module. */
export const WRITES: readonly string[] = [
  "enqueue",
  "enqueueAsync",
  "publish",
  "publishAsync",
  "notify",
  "transaction",
  "tryLock",
  "lock",
  "rateLimit",
  "trigger",
];

/** How often any code is reported at most by one loop: about once a second, and a few times at first. */
const mostReports = (milliseconds: number): number => 12 + (milliseconds / 1_000) * 2.5;

/** A process that has a loop of each module running on a file. */
export class Everything extends Process {
  #n = 0;
  #reportedAt = performance.now();
  /** What it was given, and has not refused. */
  readonly jobs: number[] = [];
  readonly notifications: number[] = [];
  readonly events: number[] = [];

  static async start(
    path: string,
    { under = [], ...options }: OpenOptions & { readonly under?: readonly string[] } = {},
  ): Promise<Everything> {
    const everything = new Everything({ under, name: "everything" }, path, JSON.stringify(options));
    await everything.read();
    return everything;
  }

  async call(name: string, n: number = ++this.#n): Promise<Outcome> {
    const outcome = await this.ask<Outcome>({ call: name, n });
    if (outcome.code !== undefined) return outcome;
    if (/^enqueue|transaction/.test(name)) this.jobs.push(n);
    if (/^publish|transaction/.test(name)) this.events.push(n);
    if (name === "notify") this.notifications.push(n);
    return outcome;
  }

  /** Resolves while a job is running that takes a second. */
  async runSlowJob(): Promise<void> {
    await this.call("enqueueSlow");
    const end = performance.now() + 20_000;
    for (;;) {
      const { value } = await this.call("counts");
      if ((value as { readonly processing: number }).processing > 0) return;
      if (performance.now() > end) throw new Error("the slow job is not run");
    }
  }

  /** The codes of calls that fail, by their names. */
  async failures(names: readonly string[] = WRITES): Promise<Record<string, string>> {
    const failed: Record<string, string> = {};
    for (const name of names) {
      const { code } = await this.call(name);
      if (code !== undefined) failed[name] = code;
    }
    return failed;
  }

  /** Makes a call without waiting for its end. */
  async begin(name: string): Promise<void> {
    const n = ++this.#n;
    await this.ask({ begin: name, n });
    if (name === "enqueueAsync") this.jobs.push(n);
  }

  /** Whatever happens: no rejection goes unhandled, nobody is told the same without end, and the event loop goes on. */
  async report(): Promise<Report> {
    const now = performance.now();
    const report = await this.ask<Report>({ report: true });
    const most = mostReports(now - this.#reportedAt);
    this.#reportedAt = now;
    for (const [what, count] of Object.entries(report.errors)) {
      if (count > most) throw new Error(`reported ${count} times: ${what}`);
    }
    if (report.unhandled > 0) throw new Error(`${report.unhandled} rejections were not handled`);
    if (report.longest > 500) throw new Error(`the event loop was held for ${report.longest} ms`);
    return report;
  }

  /** Resolves with the first report that fits. What was reported as errors till then is counted together. */
  async until(fits: (report: Report) => boolean, what: string, deadline = 20_000): Promise<Report> {
    const end = performance.now() + deadline;
    const errors: Record<string, number> = {};
    for (;;) {
      const report = await this.report();
      for (const [where, count] of Object.entries(report.errors))
        errors[where] = (errors[where] ?? 0) + count;
      if (fits({ ...report, errors })) return { ...report, errors };
      if (performance.now() > end) {
        throw new Error(`not within ${deadline} ms: ${what}: ${JSON.stringify({ ...report, errors })}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Resolves once all that was accepted has been run, heard and consumed. */
  async finished(): Promise<Report> {
    const { jobs, notifications, events } = this;
    return await this.until(
      ({ ran, heard, consumed }) =>
        jobs.every((n) => ran.includes(n)) &&
        notifications.every((n) => heard.includes(n)) &&
        events.every((n) => consumed.includes(n)),
      "all that was accepted has arrived",
    );
  }

  /** Sets a soft limit of the process: bytes of a file, or descriptors. */
  limit(resource: "fsize" | "nofile", value: number | "unlimited"): void {
    const { exitCode, stderr } = Bun.spawnSync([
      "prlimit",
      "--pid",
      `${this.pid}`,
      `--${resource}=${value}:`,
    ]);
    if (exitCode !== 0) throw new Error(stderr.toString());
  }
}

export const sorted = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b);
