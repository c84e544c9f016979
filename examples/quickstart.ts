// A shop and a mailer: two processes on one SQLite file. The shop commits an order and its e-mail together; the mailer
// wakes within milliseconds, "sends", and acknowledges. Run it with: bun examples/quickstart.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";

interface Email {
  readonly to: string;
  readonly committedAt: number;
}

const ORDERS = 10;
const milliseconds = (value: number): string => `${value.toFixed(2)} ms`;
const now = (): number => performance.timeOrigin + performance.now();

/** The producer: writes orders, each with its e-mail, and starts the mailer. */
async function shop(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-demo-"));
  const path = join(folder, "shop.db");
  const db = open(path);
  db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)");
  const emails = db.queue<Email>("emails");
  const latencies: number[] = [];
  const mailer = Bun.spawn([process.execPath, import.meta.path, "mailer", path], {
    stdout: "inherit",
    stderr: "inherit",
  });

  // The mailer tells by notifications that it is ready, and of each e-mail how long it took to wake.
  const news = db.listen<{ latency?: number }>("mailer");
  await news.next();
  console.log(`shop    process ${process.pid}, file ${path}`);

  for (let order = 1; order <= ORDERS; order++) {
    const to = `customer-${order}@example.com`;
    db.transaction((tx) => {
      tx.run("INSERT INTO orders (customer) VALUES (?)", [to]);
      emails.enqueue({ to, committedAt: now() });
    });
    console.log(`shop    order ${order} and its e-mail are committed`);
    const { value } = await news.next();
    if (value?.payload.latency !== undefined) latencies.push(value.payload.latency);
  }

  try {
    db.transaction(() => {
      emails.enqueue({ to: "nobody@example.com", committedAt: now() });
      throw new Error("card declined");
    });
  } catch (error) {
    console.log(
      `shop    order ${ORDERS + 1} is rolled back (${(error as Error).message}), and so is its e-mail`,
    );
  }

  latencies.sort((a, b) => a - b);
  const [median = 0, slowest = 0] = [latencies[latencies.length >> 1], latencies.at(-1)];
  console.log(`shop    commit to mailer: median ${milliseconds(median)}, slowest ${milliseconds(slowest)}`);
  mailer.kill("SIGTERM");
  await mailer.exited;
  db.close();
  rmSync(folder, { recursive: true });
}

/** The worker: claims e-mails as they are committed. */
async function mailer(path: string): Promise<void> {
  await using db = open(path);
  const stopping = new AbortController();
  process.once("SIGTERM", () => stopping.abort());
  const jobs = db.queue<Email>("emails").claim({ signal: stopping.signal });
  console.log(`mailer  process ${process.pid} is waiting`);
  db.notify("mailer", {});
  for await (const job of jobs) {
    const latency = now() - job.payload.committedAt;
    console.log(
      `mailer  job ${job.id}: e-mail to ${job.payload.to}, ${milliseconds(latency)} after it was enqueued`,
    );
    db.transaction(() => {
      job.ack();
      db.notify("mailer", { latency });
    });
  }
}

const [role, path] = process.argv.slice(2);
if (role === "mailer" && path !== undefined) await mailer(path);
else await shop();
