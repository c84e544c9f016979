// Three processes share what a partner's API allows, and a server tells its visitors when to come again. Run it with:
// bun examples/rate-limit.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open, WaitTimeoutError } from "honkbun";

const [role, path = "", url = ""] = process.argv.slice(2);
if (role === "client") await client();
else await main();

/** Calls the partner as often as it may, together with others that do the same. */
async function client(): Promise<void> {
  await using db = open(path);
  const partner = db.rateLimit("partner", { limit: 50, per: "1s", algorithm: "token-bucket", burst: 5 });
  const refused = await Promise.all(
    Array.from({ length: 20 }, async () => {
      await partner.wait({ timeout: "30s" });
      return (await fetch(url)).status === 429;
    }),
  );
  console.log(`client   20 calls, ${refused.filter(Boolean).length} refused by the partner`);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "honkbun-rate-limit-"));
  const file = join(folder, "app.db");
  const db = open(file);

  // The partner counts as well: at most 5 at once, and one more for each 20 ms.
  let allowance = 5;
  let countedAt = performance.now();
  using partner = Bun.serve({
    port: 0,
    fetch: () => {
      const now = performance.now();
      allowance = Math.min(allowance + (now - countedAt) / 18, 6); // a little generous, as networks are not exact
      countedAt = now;
      if (allowance < 1) return new Response(null, { status: 429 });
      allowance--;
      return new Response("ok");
    },
  });
  const clients = Array.from({ length: 3 }, () =>
    Bun.spawn([process.execPath, import.meta.path, "client", file, String(partner.url)], {
      stdout: "inherit",
      stderr: "inherit",
    }),
  );
  await Promise.all(clients.map((one) => one.exited));

  const visits = db.rateLimit("visits", { limit: 2, per: "1h" });
  using server = Bun.serve({
    port: 0,
    fetch: (request) => {
      const { allowed, remaining, retryAfter } = visits.try({
        key: request.headers.get("x-user") ?? "anonymous",
      });
      return allowed
        ? new Response(`${remaining} left`)
        : new Response("too many", {
            status: 429,
            headers: { "retry-after": String(Math.ceil(retryAfter / 1_000)) },
          });
    },
  });
  for (const user of ["alice", "alice", "alice", "bob"]) {
    const response = await fetch(server.url, { headers: { "x-user": user } });
    const seconds = Number(response.headers.get("retry-after"));
    const when = seconds > 0 && seconds <= 3_600 ? ", comes again within the hour" : "";
    console.log(`visitor  ${user}: ${response.status} ${await response.text()}${when}`);
  }

  const none = db.rateLimit("none", { limit: 1, per: "1h" });
  none.try();
  await none.wait({ timeout: 20 }).catch((error: unknown) => {
    if (!(error instanceof WaitTimeoutError)) throw error;
    console.log("main     waits no longer than it was told");
  });
  await db.shutdown();
  rmSync(folder, { recursive: true });
}
