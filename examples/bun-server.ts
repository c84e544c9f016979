// A Bun.serve application: a request that commits an order and its e-mail together, a long import whose progress goes to
// the browser by server-sent events, and a shutdown that lets everything finish. Run it with: bun examples/bun-server.ts
// With PORT set it serves until SIGTERM; without, it plays the browser itself.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";
import { z } from "zod";

const folder = mkdtempSync(join(tmpdir(), "honkbun-server-"));
const db = open(join(folder, "app.db"));
db.sqlite.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)");

const Order = z.object({ customer: z.email() });
const emails = db.queue("emails", { schema: z.object({ to: z.email(), order: z.number() }) });
const importCsv = db.task("import", {
  input: z.object({ file: z.string() }),
  output: z.object({ rows: z.number() }),
});

const server = Bun.serve({
  port: Number(Bun.env.PORT ?? 0),
  routes: {
    "/orders": {
      POST: async (request) => {
        const { customer } = Order.parse(await request.json());
        const order = db.transaction((tx) => {
          const id = Number(tx.run("INSERT INTO orders (customer) VALUES (?)", [customer]).lastInsertRowid);
          emails.enqueue({ to: customer, order: id });
          return { id, customer };
        });
        return Response.json(order, { status: 201 });
      },
    },
    "/imports": {
      POST: async (request) => {
        const { id } = importCsv.enqueue((await request.json()) as { file: string });
        return Response.json({ id }, { status: 202 });
      },
    },
    "/imports/:id/events": (request) => {
      server.timeout(request, 0); // an import may be quiet for longer than a request may
      const { signal } = request;
      const changes = importCsv.job(Number(request.params.id)).watch({ signal });
      const events = new ReadableStream<string>({
        async pull(controller) {
          const { done, value } = await changes.next();
          if (done) controller.close();
          else {
            const { state, progress, result } = value;
            controller.enqueue(`data: ${JSON.stringify({ state, progress, result })}\n\n`);
          }
        },
        cancel: () => void changes.return?.(),
      });
      return new Response(events.pipeThrough(new TextEncoderStream()), {
        headers: { "content-type": "text/event-stream" },
      });
    },
  },
});

// The workers may as well be another process on the same file.
emails.work(async (job) => {
  await Bun.sleep(10);
  console.log(`worker   e-mail to ${job.payload.to} for order ${job.payload.order}`);
});
importCsv.handle(async ({ file }, job) => {
  for (let percent = 25; percent <= 100; percent += 25) {
    await Bun.sleep(20);
    job.progress({ file, percent });
  }
  console.log(`worker   has imported ${file}`);
  return { rows: 1_000 };
});
db.work();

process.once("SIGTERM", async () => {
  await server.stop();
  await db.shutdown({ timeout: "20s" });
  rmSync(folder, { recursive: true });
  console.log("server   has shut down, and every handler has finished");
});
console.log(`server   listens on ${server.url}`);

if (Bun.env.PORT === undefined) {
  const post = async (path: string, body: unknown): Promise<{ id: number }> => {
    const response = await fetch(new URL(path, server.url), { method: "POST", body: JSON.stringify(body) });
    return (await response.json()) as { id: number };
  };
  console.log(`browser  order ${(await post("/orders", { customer: "alice@example.com" })).id} is placed`);
  const { id } = await post("/imports", { file: "customers.csv" });
  const response = await fetch(new URL(`/imports/${id}/events`, server.url));
  console.log(`browser  ${response.headers.get("content-type")}`);
  for await (const chunk of response.body ?? []) {
    for (const event of new TextDecoder()
      .decode(chunk)
      .split("\n\n")
      .filter((text) => text !== "")) {
      console.log(`browser  ${event}`);
    }
  }
  const late = await post("/imports", { file: "orders.csv" });
  while (importCsv.job(late.id).get()?.state !== "processing") await Bun.sleep(1);
  process.kill(process.pid, "SIGTERM"); // in the midst of it
}
