// How long after its commit has returned to a writer in another process is a listener called? For writers that use
// honkbun and for those that know nothing of it; and, as the floor for all that is built on file events, a bare watch.
import { Database } from "bun:sqlite";
import { appendFileSync, statSync, watch, writeFileSync } from "node:fs";

import { open } from "honkbun";

import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import type { Process } from "../support/process.ts";
import { answer, say } from "../support/programs/channel.ts";
import { instant, percentile, rounds, scaled, spawnRole, verdict } from "./support.ts";

const SENDS = scaled(300, 10);

interface Channel {
  readonly name: string;
  readonly writer: Process;
  /** When each send was noticed here. */
  readonly seen: number[];
}

const [role, path = "", synchronous = "normal"] = Bun.argv.slice(2);
if (role === undefined) await measure();
else await write(sender(role));

async function measure(): Promise<void> {
  using folder = new Folder();
  await using stack = new AsyncDisposableStack();
  const channels: Channel[] = [bareWatch(folder.file("bare"), stack)];
  for (const mode of ["normal", "full"]) {
    for (const kind of ["own", "foreign"]) {
      const file = folder.file(`${kind}-${mode}.db`);
      const db = stack.use(open(file, { wake: { safetyInterval: false, mode: "watch" } }));
      const seen: number[] = [];
      db.listen("channel", () => seen.push(instant()));
      channels.push({ name: `${kind}, ${mode}`, writer: stack.use(spawnRole(kind, file, mode)), seen });
    }
  }
  for (const { writer } of channels) {
    await writer.read();
    const before = instant();
    const between = await writer.ask<number>("time");
    if (between < before || between > instant()) throw new Error("the clocks of processes differ");
  }

  const figures = await rounds("from commit to listener", ["p50 ms", "p99 ms", "max ms"], async () => {
    const round: Record<string, number[]> = {};
    for (const channel of channels) {
      const latencies = await latenciesOf(channel);
      round[channel.name] = [0.5, 0.99, 1].map((share) => percentile(latencies, share));
    }
    return round;
  });
  for (const { name } of channels.slice(1)) {
    verdict(`${name}: p50 ms`, figures(name, "p50 ms"), "at most", 0.4);
    verdict(`${name}: p99 ms`, figures(name, "p99 ms"), "at most", 3);
  }
}

async function latenciesOf({ writer, seen }: Channel): Promise<number[]> {
  seen.length = 0;
  const returned = await writer.ask<number[]>("send");
  await eventually(() => seen.length >= returned.length, "all are seen");
  return returned.map((time, n) => (seen[n] ?? Number.NaN) - time);
}

function bareWatch(file: string, stack: AsyncDisposableStack): Channel {
  writeFileSync(file, "");
  const seen: number[] = [];
  let size = 0;
  const onEvent = (): void => {
    // The system merges equal events that were not yet read; the size tells how many there were.
    for (const { size: now } = statSync(file); size < now; size++) seen.push(instant());
  };
  stack.adopt(watch(file, onEvent), (watcher) => watcher.close());
  return { name: "bare watch", writer: stack.use(spawnRole("append", file)), seen };
}

function sender(kind: string): (n: number) => unknown {
  if (kind === "append") return () => appendFileSync(path, ".");
  if (kind === "own") {
    const db = open(path, { synchronous: synchronous === "full" ? "full" : "normal" });
    return (n) => db.notify("channel", n);
  }
  const database = new Database(path);
  database.run(`PRAGMA synchronous = ${synchronous}`);
  const insert = database.prepare("INSERT INTO _honker_notifications (channel, payload) VALUES (?, ?)");
  return (n) => insert.run("channel", `${n}`);
}

async function write(send: (n: number) => unknown): Promise<void> {
  say("ready");
  await answer(async (message: "time" | "send") => {
    if (message === "time") return instant();
    const returned: number[] = [];
    for (let n = 0; n < SENDS; n++) {
      await Bun.sleep(2 + 18 * Math.random());
      send(n);
      returned.push(instant());
    }
    return returned;
  });
}
