// A newsletter, as a program with its database at the top of a module: the path comes from the environment, so that tests
// can say ":memory:". testing.test.ts tests it.
import { type Honkbun, open, type Task } from "honkbun";
import { z } from "zod";

export const db: Honkbun = open(process.env.NEWSLETTER_DB ?? "newsletter.db");

export const welcome: Task<{ to: string }, { to: string }, string> = db.task(
  "welcome",
  { input: z.object({ to: z.email() }), backoff: { base: "1m", jitter: 0 } },
  async ({ to }) => `welcome, ${to}`,
);

export function subscribe(to: string): void {
  welcome.enqueue({ to }, { delay: "1h", uniqueKey: to });
  db.notify("subscribers", { to });
}

if (import.meta.main) db.work({ signals: true });
