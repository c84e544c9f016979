import { describe, expect, test } from "bun:test";

import { DuplicateJobError, type EnqueueOptions, open } from "../../src/index.ts";
import { database } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Honker } from "../support/honker.ts";

const KEY = { uniqueKey: "k" } as const;

describe("a unique key", () => {
  test("is taken from the enqueue to the ack, also while the job runs, is retried, or waits", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const { id, created } = queue.tryEnqueue(1, KEY);
    expect(created).toBe(true);
    const taken = (): void => {
      expect(queue.tryEnqueue(2, KEY)).toEqual({ id, created: false });
      expect(queue.enqueue(2, KEY)).toBe(id);
    };
    taken();
    const [job] = queue.claimBatch(1);
    taken();
    job?.retry({ delay: "1m" });
    taken();
    db.clock.advance("1m");
    const [again] = queue.claimBatch(1);
    expect(again?.payload).toBe(1);
    again?.ack();
    expect(queue.tryEnqueue(2, KEY).created).toBe(true);
    expect(queue.list()).toMatchObject([{ payload: 2 }]);
  });

  test("is of its queue, and other keys are others", () => {
    using db = database();
    const queue = db.queue("q");
    queue.enqueue(1, KEY);
    expect(queue.tryEnqueue(1, { uniqueKey: "other" }).created).toBe(true);
    expect(db.queue("other").tryEnqueue(1, KEY).created).toBe(true);
    queue.enqueue(1);
    expect(queue.counts().ready).toBe(3);
  });

  for (const end of ["fail", "cancel", "expire", "honker's ack", "honker's fail"] as const) {
    test(`is free after ${end}`, () => {
      using db = database({ file: true });
      using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
      const queue = db.queue("q");
      const { id } = queue.tryEnqueue(1, { ...KEY, expiresIn: "1m" });
      if (end === "fail") queue.claimBatch(1)[0]?.fail("no");
      else if (end === "cancel") queue.cancel(id);
      else if (end === "expire") {
        db.clock.advance("61s");
        expect(queue.claimBatch(1)).toEqual([]);
      } else {
        expect(honker.claim("q", "h")).toEqual([id]);
        expect(queue.tryEnqueue(2, KEY).created).toBe(false);
        if (end === "honker's ack") honker.ack(id, "h");
        else honker.fail(id, "h", "no");
      }
      expect(queue.tryEnqueue(2, KEY).created).toBe(true);
    });
  }

  test("holds for enqueueMany, within it too, and for enqueueAsync", async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    const key = (n: number): EnqueueOptions => ({ uniqueKey: `k${n % 40}` });
    const ids = queue.enqueueMany(
      Array.from({ length: 100 }, (_, n) => n),
      key,
    );
    expect(ids.slice(40, 80)).toEqual(ids.slice(0, 40));
    expect(queue.counts().ready).toBe(40);
    const more = await Promise.all([0, 1, 40, 100].map((n) => queue.enqueueAsync(n, { uniqueKey: `k${n}` })));
    expect(more.slice(0, 2)).toEqual(ids.slice(0, 2));
    expect(queue.counts().ready).toBe(42);
  });

  test("joins a transaction: a rolled-back job frees it", () => {
    using db = database({ file: true });
    const queue = db.queue("q");
    expect(() =>
      db.transaction(() => {
        expect(queue.tryEnqueue(1, KEY).created).toBe(true);
        expect(queue.tryEnqueue(2, KEY).created).toBe(false);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(queue.tryEnqueue(2, KEY).created).toBe(true);
  });
});

describe('uniqueUntil: "start"', () => {
  const START = { ...KEY, uniqueUntil: "start" } as const;

  test("frees the key once the job is claimed, so that a change while it runs is not lost", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueue(1, START);
    expect(queue.tryEnqueue(2, START).created).toBe(false);
    const [first] = queue.claimBatch(1);
    const second = queue.tryEnqueue(3, START);
    expect(second.created).toBe(true);
    expect(queue.tryEnqueue(4, START)).toEqual({ id: second.id, created: false });
    first?.retry({ delay: 0 });
    expect(queue.claimBatch(2).map(({ payload }) => payload)).toEqual([1, 3]);
  });

  test("keeps it for a job that was given back before it was begun", () => {
    using db = database();
    const queue = db.queue<number>("q");
    queue.enqueue(1, START);
    queue.claimBatch(1)[0]?.snooze(0);
    expect(queue.tryEnqueue(2, START).created).toBe(false);
  });

  test("goes by honker's claims, too", () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    const queue = db.queue<number>("q");
    const { id } = queue.tryEnqueue(1, START);
    expect(honker.claim("q", "h")).toEqual([id]);
    expect(queue.tryEnqueue(2, START).created).toBe(true);
    expect(honker.ack(id, "h")).toBe(true);
    expect(queue.tryEnqueue(3, START).created).toBe(false);
  });
});

describe("uniqueFor", () => {
  const FOR = { ...KEY, uniqueFor: "10s" } as const;

  test("keeps the key taken for so long from the enqueue on, though the job has ended", () => {
    using db = database({ file: true });
    using honker = new Honker(db.sqlite.filename, () => Math.floor(db.clock.now / 1_000));
    const queue = db.queue<number>("q");
    for (const who of ["honkbun", "honker"]) {
      const { id, created } = queue.tryEnqueue(1, FOR);
      expect(created).toBe(true);
      if (who === "honkbun") queue.claimBatch(1)[0]?.ack();
      else honker.ack(honker.claim("q", "h")[0] ?? 0, "h");
      db.clock.advance(9_999);
      expect(queue.tryEnqueue(2, FOR)).toEqual({ id, created: false });
      expect(queue.tryEnqueue(2, { ...FOR, onDuplicate: "replace" })).toEqual({ id, created: false });
      expect(() => queue.enqueue(2, { ...FOR, onDuplicate: "reject" })).toThrow(DuplicateJobError);
      expect(queue.counts()).toMatchObject({ ready: 0 });
      db.clock.advance(1);
    }
    expect(queue.tryEnqueue(3, FOR).created).toBe(true);
  });

  test("does not free the key of a job that is still there, and a cancelled one frees it", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const { id } = queue.tryEnqueue(1, FOR);
    db.clock.advance("1h");
    expect(queue.tryEnqueue(2, FOR).created).toBe(false);
    queue.cancel(id);
    const second = queue.tryEnqueue(2, FOR);
    expect(second.created).toBe(true);
    queue.cancel(second.id);
    expect(queue.tryEnqueue(3, FOR).created).toBe(true);
  });

  test('holds beside uniqueUntil: "start"', () => {
    using db = database();
    const queue = db.queue<number>("q");
    const both = { ...FOR, uniqueUntil: "start" } as const;
    queue.enqueue(1, both);
    queue.claimBatch(1);
    expect(queue.tryEnqueue(2, both).created).toBe(false);
    db.clock.advance("10s");
    expect(queue.tryEnqueue(2, both).created).toBe(true);
  });

  test("leaves nothing behind for long", () => {
    using db = database();
    const queue = db.queue<number>("q");
    const windows = (): number =>
      db.sqlite.query<{ n: number }, []>("SELECT count(*) AS n FROM _honkbun_unique_windows").get()?.n ?? -1;
    queue.enqueueMany(
      Array.from({ length: 50 }, (_, n) => n),
      (n) => ({ uniqueKey: `k${n}`, uniqueFor: "10s" }),
    );
    for (const job of queue.claimBatch(50)) job.ack();
    expect(windows()).toBe(50);
    db.clock.advance("10s");
    queue.claimBatch(1);
    expect(windows()).toBe(0);
  });
});

describe("onDuplicate", () => {
  test('"replace" gives the job that waits all that is new, under its id', () => {
    using db = database();
    const queue = db.queue<string>("q", { keepResult: true });
    const id = queue.enqueue("old", { ...KEY, delay: "1h", priority: 1, maxAttempts: 2 });
    expect(
      queue.enqueue("new", {
        ...KEY,
        onDuplicate: "replace",
        delay: "1m",
        priority: 5,
        maxAttempts: 7,
        expiresIn: "2m",
      }),
    ).toBe(id);
    expect(queue.list()).toMatchObject([
      {
        id,
        payload: "new",
        priority: 5,
        maxAttempts: 7,
        attempts: 0,
        runAt: new Date(db.clock.now + 60_000),
      },
    ]);
    db.clock.advance("121s");
    expect(queue.claimBatch(1)).toEqual([]); // expired
  });

  test('"replace" leaves one that runs as it is, and gives one that was tried before all its attempts', () => {
    using db = database();
    const queue = db.queue<string>("q");
    const replace = { ...KEY, onDuplicate: "replace" } as const;
    const id = queue.enqueue("first", replace);
    const [job] = queue.claimBatch(1);
    expect(queue.tryEnqueue("second", replace)).toEqual({ id, created: false });
    expect(queue.get(id)).toMatchObject({ state: "processing", payload: "first", attempts: 1 });
    job?.retry({ delay: "1h" });
    expect(queue.tryEnqueue("third", replace)).toEqual({ id, created: false });
    expect(queue.claimBatch(1)).toMatchObject([{ id, payload: "third", attempt: 1 }]);
    expect(() => job?.ack()).toThrow();
  });

  test('"reject" throws, with the id of the other, and nothing is written', async () => {
    using db = database({ file: true });
    const queue = db.queue<number>("q");
    const reject = { ...KEY, onDuplicate: "reject" } as const;
    const id = queue.enqueue(1, reject);
    for (const enqueue of [
      () => queue.enqueue(2, reject),
      () => queue.tryEnqueue(2, reject),
      () => queue.enqueueMany([7, 8], (n) => (n === 7 ? {} : reject)),
    ]) {
      expect(enqueue).toThrow(DuplicateJobError);
    }
    const async = [queue.enqueueAsync(3), queue.enqueueAsync(4, reject), queue.enqueueAsync(5)];
    expect(async[1]).rejects.toMatchObject({ code: "HONKBUN_DUPLICATE_JOB", id });
    await Promise.allSettled(async);
    expect(
      queue
        .list()
        .map(({ payload }) => payload)
        .sort(),
    ).toEqual([1, 3, 5]);
  });

  for (const onDuplicate of ["keep", "replace", "reject"] as const) {
    test(`"${onDuplicate}" is what dead.retry goes by when the key is taken`, () => {
      using db = database();
      const queue = db.queue<string>("q", { keepResult: "1h" });
      const id = queue.enqueue("dead", { ...KEY, onDuplicate, group: "g" });
      queue.claimBatch(1)[0]?.fail("no");
      const other = queue.enqueue("other", KEY);
      const retried = (): number => queue.dead.retry("all");
      if (onDuplicate === "reject") expect(retried).toThrow(DuplicateJobError);
      else expect(retried()).toBe(onDuplicate === "replace" ? 1 : 0);
      expect(queue.dead.list()).toHaveLength(onDuplicate === "replace" ? 0 : 1);
      expect(queue.get(other)?.payload).toBe(onDuplicate === "replace" ? "dead" : "other");
      if (onDuplicate === "replace") return;
      queue.claimBatch(1)[0]?.ack();
      expect(queue.dead.retry([id])).toBe(1);
      expect(queue.tryEnqueue("third", KEY)).toEqual({ id, created: false });
      expect(queue.claimBatch(1)).toMatchObject([{ id, payload: "dead", attempt: 1 }]);
    });
  }
});

test("recipes: throttle and debounce", () => {
  using db = database();
  const queue = db.queue<string>("q");
  const throttled = (text: string): boolean =>
    queue.tryEnqueue(text, { uniqueKey: "sync", uniqueFor: "1m" }).created;
  expect([throttled("a"), throttled("b")]).toEqual([true, false]);
  queue.claimBatch(1)[0]?.ack();
  expect(throttled("c")).toBe(false);
  db.clock.advance("1m");
  expect(throttled("d")).toBe(true);
  queue.claimBatch(1)[0]?.ack();

  const debounced = (text: string): void =>
    void queue.enqueue(text, {
      uniqueKey: "save",
      delay: "5s",
      onDuplicate: "replace",
      uniqueUntil: "start",
    });
  debounced("first");
  for (const text of ["second", "third"]) {
    db.clock.advance("4s");
    debounced(text);
  }
  db.clock.advance(4_999);
  expect(queue.claimBatch(1)).toEqual([]);
  db.clock.advance(1);
  expect(queue.claimBatch(2)).toMatchObject([{ payload: "third" }]);
  debounced("while it runs");
  db.clock.advance("5s");
  expect(queue.claimBatch(2)).toMatchObject([{ payload: "while it runs" }]);
});

test("a key that is taken uses up no id", () => {
  using db = database();
  const queue = db.queue<number>("q");
  const first = queue.enqueue(1, KEY);
  for (let n = 0; n < 3; n++) queue.enqueue(2, KEY);
  expect(queue.enqueue(3)).toBe(first + 1);
});

test("dead.retry leaves a job where it is while the one that has its key runs, and within another's window", () => {
  using db = database();
  const queue = db.queue<string>("q");
  const replace = { ...KEY, onDuplicate: "replace" } as const;
  const dead = queue.enqueue("dead", replace);
  queue.claimBatch(1)[0]?.fail("no");
  queue.enqueue("running", replace);
  const [running] = queue.claimBatch(1);
  expect(queue.dead.retry([dead])).toBe(0);
  expect(queue.dead.list()).toMatchObject([{ id: dead }]);
  running?.ack();
  queue.enqueue("throttled", { ...KEY, uniqueFor: "1m" });
  queue.claimBatch(1)[0]?.ack();
  expect(queue.dead.retry([dead])).toBe(0);
  db.clock.advance("1m");
  expect(queue.dead.retry([dead])).toBe(1);
  queue.claimBatch(1)[0]?.fail("again");
  queue.enqueue("ready", replace);
  expect(queue.dead.retry([dead])).toBe(1);
  expect(queue.claimBatch(1)).toMatchObject([{ payload: "dead" }]);
  expect(db.sqlite.query("SELECT * FROM _honkbun_errors").all()).toEqual([]);
});

test("a job comes back within the window of its own key", () => {
  using db = database();
  const queue = db.queue<string>("q");
  const id = queue.enqueue("dead", { ...KEY, uniqueFor: "1h" });
  queue.claimBatch(1)[0]?.fail("no");
  expect(queue.dead.retry([id])).toBe(1);
});

describe("refused, before anything is written, is", () => {
  for (const [what, options, message] of [
    ["an empty key", { uniqueKey: "" }, "enqueue: uniqueKey must be a non-empty string"],
    ["half a pair", { uniqueKey: "\ud800" }, "enqueue: uniqueKey must be well-formed Unicode"],
    ["a window without a key", { uniqueFor: "1s" }, "enqueue: uniqueFor needs uniqueKey"],
    ["an end without a key", { uniqueUntil: "end" }, "enqueue: uniqueUntil needs uniqueKey"],
    ["a rule without a key", { onDuplicate: "keep" }, "enqueue: onDuplicate needs uniqueKey"],
    ["an unknown end", { ...KEY, uniqueUntil: "ack" }, 'enqueue: uniqueUntil must be "start" or "end"'],
    [
      "an unknown rule",
      { ...KEY, onDuplicate: "drop" },
      'enqueue: onDuplicate must be "keep" or "replace" or "reject"',
    ],
    ["a window that is none", { ...KEY, uniqueFor: "1 day" }, "enqueue: uniqueFor"],
    ["an empty group", { group: "" }, "enqueue: group must be a non-empty string"],
    ["ids that are none", { after: ["1"] }, "enqueue: after must be an array of job ids"],
    ["no array of ids", { after: 1 }, "enqueue: after must be an array of job ids"],
    ["a job that never was", { after: [99] }, "enqueue: after: there has never been a job 99"],
    ["an id that never is", { after: [0] }, "enqueue: after: there has never been a job 0"],
    [
      "what cannot be replaced",
      { ...KEY, onDuplicate: "replace", after: [] },
      'enqueue: after cannot be given together with onDuplicate "replace"',
    ],
    ["a rule for nothing", { ifFailed: "run" }, "enqueue: ifFailed needs after"],
    [
      "an unknown rule for failures",
      { after: [], ifFailed: "no" },
      'enqueue: ifFailed must be "bury" or "run"',
    ],
  ] as const) {
    test(what, () => {
      using db = database();
      const queue = db.queue("q");
      expect(() => queue.enqueue(1, options as EnqueueOptions)).toThrow(message);
      expect(queue.counts()).toMatchObject({ ready: 0, blocked: 0, delayed: 0 });
    });
  }

  test("tryEnqueue without a key", () => {
    using db = database();
    expect(() => db.queue("q").tryEnqueue(1, {} as never)).toThrow("tryEnqueue: uniqueKey must be given");
  });
});

test("of many processes that enqueue with one key, one creates the job", async () => {
  using folder = new Folder();
  using db = open(folder.file());
  db.sqlite.run("CREATE TABLE created (key TEXT, pid INTEGER)");
  const children = Array.from({ length: 4 }, () =>
    Bun.spawn([
      process.execPath,
      `${import.meta.dir}/../support/programs/unique-enqueuer.ts`,
      folder.file(),
      "200",
    ]),
  );
  const worker = db.queue<string>("q").work(() => {}, { concurrency: 5 });
  await Promise.all(children.map((child) => child.exited));
  await eventually(() => db.queue("q").counts().ready === 0, "all are run");
  await worker.stop();
  const rows = db.sqlite.query("SELECT key, count(*) AS n FROM created GROUP BY key HAVING n <> 1").all();
  expect(rows).toEqual([]);
  expect(db.sqlite.query("SELECT count(*) AS n FROM created").get()).toEqual({ n: 200 });
}, 30_000);
