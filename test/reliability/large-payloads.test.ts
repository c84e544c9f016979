import { expect, test } from "bun:test";

import { JobFailedError, open } from "../../src/index.ts";
import { within } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";
import { Process } from "../support/process.ts";

const SIZE = 10_000_000;
const large = "äx".repeat(SIZE / 2);

test("payloads, results and errors of ten megabytes go from process to process", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  const errors: unknown[] = [];
  using _ = db.on("error", ({ error }) => void errors.push(error));
  await using process = new Process("large", folder.file());
  await process.read();
  const queue = db.queue<string, string>("q", { keepResult: true, maxAttempts: 1 });

  const result = await within(queue.waitResult(queue.enqueue(large)), "the result");
  expect(result === large).toBe(true);
  const failed = await within(
    queue.waitResult(queue.enqueue(`fail${large}`)).catch((error) => error),
    "the error",
  );
  expect(failed).toBeInstanceOf(JobFailedError);
  expect((failed as JobFailedError).errors[0]?.message === `fail${large}`).toBe(true);
  db.stream<string>("s").publish(large);
  expect(await process.read()).toEqual({ consumed: SIZE });
  db.notify("c", large);
  expect(await process.read()).toEqual({ heard: SIZE });
  // Among small ones, that are not held up.
  const [first = 0, , last = 0] = queue.enqueueMany(["small", large, "small"]);
  expect(await within(queue.waitResult(first), "the first")).toBe("small");
  expect(await within(queue.waitResult(last), "the last")).toBe("small");
  expect(errors).toEqual([]);
  expect(db.check().findings.filter(({ kind }) => kind !== "wal")).toEqual([]); // so much makes the log long
}, 60_000);

test("a payload and a result of ten megabytes go to a thread and back", async () => {
  using folder = new Folder();
  using db = open(folder.file(), { wake: { safetyInterval: false } });
  const queue = db.queue<string, string>("q", { keepResult: true });
  await using _ = queue.work(new URL("../support/handlers/echo.ts", import.meta.url));
  const result = await within(queue.waitResult(queue.enqueue(large)), "the result");
  expect(result === large).toBe(true);
}, 60_000);
