import { afterAll, describe, expect, test } from "bun:test";

import { z } from "zod";

import { open, PayloadError } from "../../src/index.ts";
import { database } from "../support/database.ts";

describe("enqueue", () => {
  test("returns ascending ids and stores the job as honker reads it", () => {
    using db = database({ now: new Date("2030-01-02T03:04:05.678Z") });
    const queue = db.queue<{ a: number }>("q", { maxAttempts: 7 });
    expect([
      queue.enqueue({ a: 1 }),
      queue.enqueue({ a: 2 }, { priority: -3, delay: "1.5s", expiresIn: 1 }),
    ]).toEqual([1, 2]);
    const seconds = Date.parse("2030-01-02T03:04:05Z") / 1_000;
    const stored = {
      queue: "q",
      state: "pending",
      worker_id: null,
      claim_expires_at: null,
      attempts: 0,
      max_attempts: 7,
    };
    expect(db.sqlite.query("SELECT * FROM _honker_live").all()).toMatchObject([
      { ...stored, payload: '{"a":1}', priority: 0, run_at: seconds, created_at: seconds, expires_at: null },
      {
        ...stored,
        payload: '{"a":2}',
        priority: -3,
        run_at: seconds + 2,
        created_at: seconds,
        expires_at: seconds + 1,
      },
    ]);
    const types = db.sqlite.query(
      "SELECT DISTINCT typeof(run_at) || typeof(created_at) || typeof(priority) AS t FROM _honker_live",
    );
    expect(types.all()).toEqual([{ t: "integerintegerinteger" }]);
  });

  test("stores whole milliseconds whatever the clock says", () => {
    using db = open(":memory:", { clock: () => 1_900_000_000_123.75 });
    db.queue("q").enqueue(1);
    expect(db.sqlite.query("SELECT due_ms, run_at, created_at FROM _honker_live").get()).toEqual({
      due_ms: 1_900_000_000_123,
      run_at: 1_900_000_000,
      created_at: 1_900_000_000,
    });
  });

  test("keeps payloads of every kind as they are", () => {
    using db = database();
    const queue = db.queue("q");
    const payloads = [
      "",
      "a\u0000\ud800☃𝄞",
      true,
      false,
      0,
      -1.5e300,
      null,
      [],
      { deep: [{ a: [null] }] },
      "x".repeat(5_000_000),
    ];
    for (const payload of payloads) queue.enqueue(payload);
    db.queue<void>("q").enqueue(undefined);
    expect(queue.claimBatch(99).map((job) => job.payload)).toEqual([...payloads, null]);
  });

  test("keeps names of any characters apart", () => {
    using db = database();
    const names = ["q", "Q", "q ", "a\u0000b", "a\u0000c", `'; DROP TABLE _honker_live; --`, "☃", "%", "_"];
    for (const name of names) db.queue(name).enqueue(name);
    for (const name of names)
      expect(db.queue(name).claimBatch(9)).toMatchObject([{ queue: name, payload: name }]);
  });

  test("stores the schema's input and yields its output", () => {
    using db = database();
    const queue = db.queue("q", {
      schema: z.object({ at: z.coerce.date<Date | string>(), n: z.string().transform(Number) }),
    });
    queue.enqueue({ at: new Date("2030-01-01"), n: "12" });
    expect(db.sqlite.query("SELECT payload FROM _honker_live").get()).toEqual({
      payload: '{"at":"2030-01-01T00:00:00.000Z","n":"12"}',
    });
    expect(queue.claimBatch(1)[0]?.payload).toEqual({ at: new Date("2030-01-01"), n: 12 });
  });
});

describe("enqueue refuses, before anything is written,", () => {
  const db = database();
  afterAll(() => db.close());
  const queue = db.queue("q");
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  const dates = db.queue("q", { schema: z.object({ at: z.date() }) });
  const asynchronous = db.queue("q", { schema: z.string().refine(async () => true) });

  const bad: [string, () => unknown, new (...args: never[]) => Error, string][] = [
    ["a BigInt", () => queue.enqueue(1n), PayloadError, "enqueue to q: the payload cannot be stored as JSON"],
    ["a cycle", () => queue.enqueue(cycle), PayloadError, "cannot be stored as JSON"],
    ["a symbol", () => queue.enqueue(Symbol("x")), PayloadError, "cannot be stored as JSON: symbol"],
    ["what the schema refuses", () => dates.enqueue({ at: 1 as never }), PayloadError, "at: "],
    [
      "what does not fit once it is JSON",
      () => dates.enqueue({ at: new Date() }),
      PayloadError,
      "z.coerce.date()",
    ],
    ["an asynchronous schema", () => asynchronous.enqueue("x"), TypeError, "must be synchronous"],
    ["delay and runAt together", () => queue.enqueue(1, { delay: 1, runAt: 1 }), TypeError, "not both"],
    ["a negative delay", () => queue.enqueue(1, { delay: -1 }), RangeError, "enqueue: delay must be"],
    ["a delay that is no duration", () => queue.enqueue(1, { delay: "soon" as never }), TypeError, '"soon"'],
    ["an endless delay", () => queue.enqueue(1, { delay: Number.POSITIVE_INFINITY }), RangeError, "Infinity"],
    ["an invalid date", () => queue.enqueue(1, { runAt: new Date("x") }), RangeError, "an invalid Date"],
    ["a fractional priority", () => queue.enqueue(1, { priority: 0.5 }), RangeError, "from -100 to 100"],
    ["a priority out of range", () => queue.enqueue(1, { priority: 101 }), RangeError, "got 101"],
    ["no attempts", () => queue.enqueue(1, { maxAttempts: 0 }), RangeError, "enqueue: maxAttempts"],
    ["an unknown option", () => queue.enqueue(1, { dealy: 1 } as never), TypeError, "unknown option dealy"],
    ["an empty queue name", () => db.queue(""), TypeError, "queue: name must be a non-empty string"],
    [
      "unknown queue options",
      () => db.queue("q", { retries: 3 } as never),
      TypeError,
      "queue: unknown option retries",
    ],
    ["a wrong backoff", () => db.queue("q", { backoff: { jitter: 2 } }), Error, "queue: backoff"],
    ["a wrong schema", () => db.queue("q", { schema: {} as never }), TypeError, "must be a Standard Schema"],
    [
      "a visibility timeout of 0",
      () => db.queue("q", { visibilityTimeout: 0 }),
      RangeError,
      "visibilityTimeout",
    ],
    [
      "a visibility timeout of 0 for a loop",
      () => queue.claim({ visibilityTimeout: 0 }),
      RangeError,
      "claim: visibilityTimeout",
    ],
    [
      "an unknown option of a loop",
      () => queue.claim({ prio: 1 } as never),
      TypeError,
      "unknown option prio",
    ],
    ["a batch of none", () => queue.claimBatch(0), RangeError, "claimBatch: count"],
  ];
  for (const [what, call, type, message] of bad) {
    test(what, () => {
      expect(call).toThrow(type);
      expect(call).toThrow(message);
      expect(db.sqlite.query("SELECT count(*) AS n FROM _honker_live").get()).toEqual({ n: 0 });
    });
  }
});
