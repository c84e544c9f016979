// A page with durable server-sent events: what was published while the browser was away comes when it is back, by the
// Last-Event-ID that it sends. Run it with: bun examples/sse.ts
// With PORT set it serves until SIGTERM, and a browser can look; without, it plays the browser itself.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";

const folder = mkdtempSync(join(tmpdir(), "honkbun-sse-"));
const db = open(join(folder, "app.db"));
const news = db.stream<{ readonly text: string }>("news", { retain: { maxAge: "7d" } });

const PAGE = `<!doctype html><title>News</title><ul></ul><script>
  new EventSource("/events").onmessage = ({ data, lastEventId }) => {
    const item = document.createElement("li");
    item.textContent = lastEventId + ": " + JSON.parse(data).text;
    document.querySelector("ul").append(item);
  };
</script>`;

const server = Bun.serve({
  port: Number(Bun.env.PORT ?? 0),
  routes: {
    "/": new Response(PAGE, { headers: { "content-type": "text/html" } }),
    "/news": {
      POST: async (request) => {
        const { text } = (await request.json()) as { text: string };
        return Response.json({ offset: news.publish({ text }) }, { status: 201 });
      },
    },
    "/events": (request) => {
      server.timeout(request, 0); // there may be no news for longer than a request may take
      const last = request.headers.get("last-event-id");
      const source = news.subscribe({
        from: last === null ? "end" : Number(last),
        signal: request.signal,
        onTrimmed: () => {}, // what is older than a week nobody needs
      });
      const events = new ReadableStream<string>({
        start: (controller) => controller.enqueue(": welcome\n\n"),
        async pull(controller) {
          const { done, value } = await source.next();
          if (done) controller.close();
          else controller.enqueue(`id: ${value.offset}\ndata: ${JSON.stringify(value.payload)}\n\n`);
        },
        cancel: () => void source.return?.(),
      });
      return new Response(events.pipeThrough(new TextEncoderStream()), {
        headers: { "content-type": "text/event-stream" },
      });
    },
  },
});
console.log(`server   listens on ${server.url}`);

if (Bun.env.PORT === undefined) await play();
else await new Promise((resolve) => process.once("SIGTERM", resolve));
await server.stop(true);
await db.shutdown();
rmSync(folder, { recursive: true });

/** A browser that reads two events, loses its connection, and comes back. */
async function play(): Promise<void> {
  const publish = (text: string): Promise<Response> =>
    fetch(new URL("/news", server.url), { method: "POST", body: JSON.stringify({ text }) });
  let last: string | undefined;
  const read = async (count: number, meanwhile: () => Promise<unknown>): Promise<void> => {
    const connection = new AbortController();
    const response = await fetch(new URL("/events", server.url), {
      signal: connection.signal,
      headers: last === undefined ? {} : { "last-event-id": last },
    });
    await meanwhile();
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true });
      const events = [...text.matchAll(/id: (\d+)\ndata: (.*)\n\n/g)];
      if (events.length < count) continue;
      for (const [, id, data] of events) console.log(`browser  ${id} ${data}`);
      last = events.at(-1)?.[1];
      break;
    }
    connection.abort();
  };
  await publish("nobody was there yet");
  await read(2, async () => {
    await publish("first");
    await publish("second");
  });
  console.log("browser  has lost its connection");
  await publish("third");
  await publish("fourth");
  await read(3, () => publish("fifth"));
}
