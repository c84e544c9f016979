import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";

import { open } from "../src/index.ts";
import { database } from "./support/database.ts";
import { eventually, within } from "./support/eventually.ts";
import { Folder } from "./support/folder.ts";

for (const file of [false, true]) {
  describe(`${file ? "on a file" : "in memory"}`, () => {
    test("a listener may close the handle: nobody is called after that, and nothing fails", async () => {
      const db = database({ file });
      const errors: unknown[] = [];
      db.on("error", (event) => void errors.push(event));
      const heard: unknown[] = [];
      db.listen("c", ({ payload }) => {
        heard.push(payload);
        db.close();
      });
      db.listen("c", ({ payload }) => void heard.push(payload));
      for (let n = 0; n < 10; n++) db.notify("c", n);
      await eventually(() => heard.length > 0, "the first is heard");
      await new Promise((resolve) => setImmediate(resolve));
      expect(heard).toEqual([0]);
      expect(errors).toEqual([]);
    });

    test("a listener may send, begin transactions, listen and dispose", async () => {
      using db = database({ file });
      const heard: number[] = [];
      db.listen<number>("c", ({ payload }) => {
        heard.push(payload);
        if (payload === 5) return;
        db.transaction(() => {
          db.notify("c", payload + 1);
          db.listen("c", () => void heard.push(-1))[Symbol.dispose]();
        });
      });
      db.notify("c", 0);
      await eventually(() => heard.length === 6, "all are heard");
      expect(heard).toEqual([0, 1, 2, 3, 4, 5]);
    });

    test("the body of a claim loop may close the handle, which ends the loop", async () => {
      const db = database({ file });
      db.queue("q").enqueue(1);
      db.queue("q").enqueue(2);
      let runs = 0;
      for await (const job of db.queue("q").claim()) {
        runs++;
        db.close();
        expect(() => job.ack()).toThrow("closed");
      }
      expect(runs).toBe(1);
    });

    test("a handle that the application closes ends those who wait for it, and refuses sends", async () => {
      using folder = new Folder();
      const handle = new Database(file ? folder.file() : ":memory:");
      using db = open(handle, { wake: { safetyInterval: "5ms" } });
      db.on("error", () => {});
      const next = db.queue("q").claim().next();
      await new Promise((resolve) => setImmediate(resolve));
      handle.close();
      expect(() => db.notify("c")).toThrow(expect.objectContaining({ code: "HONKBUN_CLOSED" }));
      if (file) db.close(); // in a file others may still send
      const end = await within(
        next.catch((error: unknown) => error),
        "the loop's end",
      );
      expect(end).toMatchObject(file ? { done: true } : { code: "HONKBUN_CLOSED" });
    });

    test("a transaction's callback may not close the handle", () => {
      using db = database({ file });
      expect(() => db.transaction(() => db.close())).toThrow("close after it");
      expect(db.queue("q").enqueue(1)).toBe(1);
    });
  });
}

test("a signal that outlives many loops and listeners keeps none of them", async () => {
  using db = database();
  const { signal } = new AbortController();
  const attached = new Set<unknown>();
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    attached.add(args[1]);
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    attached.delete(args[1]);
    remove(...args);
  };
  for (let n = 0; n < 10; n++) {
    const [loop, source] = [db.queue("q").claim({ signal }), db.listen("c", { signal })];
    const subscription = db.listen("c", () => {}, { signal });
    expect(attached.size).toBe(3);
    await loop.return?.();
    await source.return?.();
    subscription[Symbol.dispose]();
    expect(attached.size).toBe(0);
  }
});

test("two handles on one file in one process wake each other", async () => {
  using folder = new Folder();
  using one = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
  using two = open(folder.file(), { wake: { safetyInterval: false, mode: "watch" } });
  let heard = 0;
  two.listen("c", () => void heard++);
  for (let n = 1; n <= 50; n++) {
    one.notify("c");
    await eventually(() => heard === n, `commit ${n} is seen`);
  }
});

test("a process with nothing attached ends by itself, its handle open", async () => {
  using folder = new Folder();
  const program = `
    import { open } from ${JSON.stringify(Bun.resolveSync("../src/index.ts", import.meta.dir))};
    const db = open(${JSON.stringify(folder.file())});
    db.queue("q").enqueue(1);
    db.listen("c", () => {})[Symbol.dispose]();
    for await (const job of db.queue("q").claim()) { job.ack(); break; }`;
  const child = Bun.spawn([process.execPath, "-e", program], { stderr: "inherit" });
  expect(await within(child.exited, "the end of the process")).toBe(0);
});
