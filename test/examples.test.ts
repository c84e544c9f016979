import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { resolve } from "node:path";

import { within } from "./support/eventually.ts";

const EXAMPLES = resolve(import.meta.dir, "../examples");

/** What each example must have printed by its end. */
const PRINTED: Record<string, RegExp[]> = {
  "import.ts": [
    /^queue {3}{"ready":3,"delayed":1,"processing":0,"blocked":0,"completed":0,"dead":0}$/m,
    /^watch {3}customers.csv: completed {2}{"percent":100} {2}{"rows":1000}$/m,
    /^worker {2}job 2 failed and will be tried again$/m,
    /^dead {4}job 2, orders.csv, after 2 errors: line 7 of orders.csv is no order$/m,
    /^watch {3}orders.csv: completed /m,
    /^watch {3}archive.csv: completed /m,
    /^queue {3}{"ready":0,"delayed":0,"processing":0,"blocked":0,"completed":4,"dead":0}$/m,
  ],
  "quickstart.ts": [
    /^shop {4}order 10 and its e-mail are committed$/m,
    /^mailer {2}job 10: e-mail to customer-10@example.com, [\d.]+ ms after it was enqueued$/m,
    /^shop {4}order 11 is rolled back \(card declined\), and so is its e-mail$/m,
    /^shop {4}commit to mailer: median [\d.]+ ms, slowest [\d.]+ ms$/m,
  ],
};

test("every example is run by a test", () => {
  expect(readdirSync(EXAMPLES).sort()).toEqual(Object.keys(PRINTED).sort());
});

for (const [example, printed] of Object.entries(PRINTED)) {
  test(`examples/${example} runs to its end`, async () => {
    const child = Bun.spawn([process.execPath, resolve(EXAMPLES, example)], {
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, errors, code] = await within(
      Promise.all([child.stdout.text(), child.stderr.text(), child.exited]),
      `the end of ${example}`,
    );
    expect(errors).toBe("");
    expect(code).toBe(0);
    for (const line of printed) expect(out).toMatch(line);
    expect(out).not.toContain("nobody@example.com");
  }, 30_000);
}
