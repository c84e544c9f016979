// Do 10,000 listeners on as many channels make a commit to one of them dearer, or the attaching of one more?
import { type Honkbun, open } from "honkbun";

import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { answer, say } from "../support/programs/channel.ts";
import { instant, median, rounds, scaled, spawnRole, verdict } from "./support.ts";

const LISTENERS = scaled(10_000, 100);
const SENDS = scaled(200, 20);
/** Attaching is compared between so many at the beginning and at the end. */
const SAMPLE = Math.min(1_000, LISTENERS / 2);

interface Listening {
  readonly db: Honkbun;
  readonly channels: number;
  /** Microseconds for each `listen`. */
  readonly attaching: readonly number[];
  /** Called with the time when a listener was called. */
  onCalled: (at: number) => void;
}

const [role, ...files] = Bun.argv.slice(2);
if (role === undefined) await measure();
else await sendForOthers(files.map((file) => open(file)));

async function measure(): Promise<void> {
  const figures = await rounds(
    `${LISTENERS} listeners beside 1`,
    ["1", String(LISTENERS), "ratio"],
    async () => {
      using folder = new Folder();
      using stack = new DisposableStack();
      const one = listen(stack.use(openQuiet(folder.file("one.db"))), 1);
      const many = listen(stack.use(openQuiet(folder.file("many.db"))), LISTENERS);
      await using other = spawnRole("sender", folder.file("one.db"), folder.file("many.db"));
      await other.read();
      const here = await compare(one, many, async ({ db }, channel) => {
        const sent = instant();
        db.notify(channel);
        return sent;
      });
      const there = await compare(one, many, (target, channel) =>
        other.ask<number>({ file: target === one ? 0 : 1, channel }),
      );
      const [first, last] = [many.attaching.slice(0, SAMPLE), many.attaching.slice(-SAMPLE)].map(median);
      return {
        "send here, µs": here,
        "send elsewhere, µs": there,
        "attach first and last, µs": [first ?? 0, last ?? 0, (last ?? 0) / (first ?? 0)],
      };
    },
  );
  for (const subject of ["send here, µs", "send elsewhere, µs", "attach first and last, µs"]) {
    verdict(subject.replace(", µs", ""), figures(subject, "ratio"), "at most", 1.5);
  }
}

function openQuiet(file: string): Honkbun {
  return open(file, { wake: { safetyInterval: false, mode: "watch" } });
}

function listen(db: Honkbun, channels: number): Listening {
  const attaching: number[] = [];
  const listening: Listening = { db, channels, attaching, onCalled: () => {} };
  for (let n = 0; n < channels; n++) {
    const start = performance.now();
    db.listen(`channel ${n}`, () => listening.onCalled(instant()));
    attaching.push((performance.now() - start) * 1_000);
  }
  return listening;
}

/** Medians of the time from the beginning of a send until its listener is called, for both in turns. `send` tells when it began. */
async function compare(
  one: Listening,
  many: Listening,
  send: (to: Listening, channel: string) => Promise<number>,
): Promise<number[]> {
  const times = [one, many].map((to) => ({ to, found: [] as number[] }));
  for (let n = 0; n < SENDS; n++) {
    for (const { to, found } of times) {
      const called = Promise.withResolvers<number>();
      to.onCalled = called.resolve;
      const sent = await send(to, `channel ${Math.floor(Math.random() * to.channels)}`);
      found.push(((await within(called.promise, "a listener is called")) - sent) * 1_000);
      await Bun.sleep(5); // until the looks after the last event have become seldom
    }
  }
  const [alone = 0, among = 0] = times.map(({ found }) => median(found));
  return [alone, among, among / alone];
}

async function sendForOthers(databases: Honkbun[]): Promise<void> {
  say("ready");
  await answer(({ file, channel }: { file: number; channel: string }) => {
    const sent = instant();
    databases[file]?.notify(channel);
    return sent;
  });
}
