// How long after its commit has returned to a writer in another process is a listener called? For writers that use
// honkbun and for those that know nothing of it; and, as the floor, a bare watch on the WAL of the same file, with one read of the
// rows after the last one seen upon each event, which finds what is visible by then.
import { Database } from "bun:sqlite";
import { watch } from "node:fs";

import { open } from "honkbun";

import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import type { Process } from "../support/process.ts";
import { answer, say } from "../support/programs/channel.ts";
import { instant, percentile, rounds, scaled, spawnRole, verdict } from "./support.ts";

const SENDS = scaled(300, 10);
const BARE = "bare watch: ";
/** Milliseconds between two reads of a bare watch without an event, for what was not visible at the last one. */
const AGAIN = 20;
/** Milliseconds that a listener may have to wait. */
const BOUND = 3;

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
  const channels: Channel[] = [];
  for (const mode of ["normal", "full"]) {
    for (const kind of ["own", "foreign"]) {
      const name = `${kind}, ${mode}`;
      const file = folder.file(`${kind}-${mode}.db`);
      const db = stack.use(open(file, { wake: { safetyInterval: false, mode: "watch" } }));
      const writer = stack.use(spawnRole(kind, file, mode));
      const seen: number[] = [];
      db.listen("channel", () => seen.push(instant()));
      channels.push({ name, writer, seen });
      const bareFile = folder.file(`bare-${kind}-${mode}.db`);
      await open(bareFile).close();
      const bareWriter = stack.use(spawnRole(kind, bareFile, mode));
      channels.push(bareWatch(`${BARE}${name}`, bareFile, bareWriter, stack));
    }
  }
  for (const { writer } of channels) {
    await writer.read();
    const before = instant();
    const between = await writer.ask<number>("time");
    if (between < before || between > instant()) throw new Error("the clocks of processes differ");
  }

  const figures = await rounds(
    "from commit to listener",
    ["p50 ms", "p99 ms", "max ms", `> ${BOUND} ms`],
    async () => {
      const round: Record<string, number[]> = {};
      for (const channel of channels) {
        const latencies = await latenciesOf(channel);
        const late = latencies.filter((latency) => latency > BOUND).length;
        round[channel.name] = [...[0.5, 0.99, 1].map((share) => percentile(latencies, share)), late];
      }
      return round;
    },
  );
  for (const { name } of channels.filter((channel) => !channel.name.startsWith(BARE))) {
    const ratio = figures(name, "p50 ms") / figures(`${BARE}${name}`, "p50 ms");
    verdict(`${name}: p50 / of a bare watch`, ratio, "at most", 2);
    verdict(`${name}: p99 ms`, figures(name, "p99 ms"), "at most", BOUND);
  }
}

async function latenciesOf({ writer, seen }: Channel): Promise<number[]> {
  seen.length = 0;
  const returned = await writer.ask<number[]>("send");
  await eventually(() => seen.length >= returned.length, "all are seen");
  return returned.map((time, n) => (seen[n] ?? Number.NaN) - time);
}

function bareWatch(name: string, file: string, writer: Process, stack: AsyncDisposableStack): Channel {
  const database = stack.adopt(new Database(file), (opened) => opened.close());
  const select = database.prepare<{ id: number }, [number]>(
    "SELECT id, payload FROM _honker_notifications WHERE channel = 'channel' AND id > ?",
  );
  const seen: number[] = [];
  let last = 0;
  const look = (): void => {
    for (const { id } of select.all(last)) {
      last = id;
      seen.push(instant());
    }
  };
  look(); // which opens the WAL
  stack.adopt(watch(`${file}-wal`, look), (watcher) => watcher.close());
  stack.adopt(setInterval(look, AGAIN), clearInterval);
  return { name, writer, seen };
}

function sender(kind: string): (n: number) => unknown {
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
