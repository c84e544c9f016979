import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { resolve } from "node:path";

import { within } from "./support/eventually.ts";

const EXAMPLES = resolve(import.meta.dir, "../examples");

/** What each example must have printed by its end. */
const PRINTED: Record<string, RegExp[]> = {
  "bun-server.ts": [
    /^server {3}listens on http/m,
    /^browser {2}order 1 is placed$/m,
    /^worker {3}e-mail to alice@example.com for order 1$/m,
    /^browser {2}text\/event-stream$/m,
    /^browser {2}data: {"state":"processing","progress":{"file":"customers.csv","percent":75}}$/m,
    /^browser {2}data: {"state":"completed","progress":{"file":"customers.csv","percent":100},"result":{"rows":1000}}$/m,
    /^worker {3}has imported orders.csv\nserver {3}has shut down, and every handler has finished$/m,
  ],
  "capture.ts": [
    /^cache {2}alice is member\ncache {2}alice is admin$/m,
    /^audit {2}insert 1 to alice, member\naudit {2}insert 2 to bob, member$/m,
    /^audit {2}update 1 from alice, member to alice, admin\naudit {2}delete 2 from bob, member$/m,
  ],
  "check.ts": [/^all is well; the WAL has \d+ bytes$/m],
  "drizzle.ts": [
    /^shop {4}card declined, and nothing is left of it: 1 orders, 1 e-mails$/m,
    /^shop {4}2 orders, 2 e-mails$/m,
    /^shop {4}db.sqlite is inside a transaction that db.transaction did not begin/m,
    /^worker {2}e-mail to alice for order 1\nworker {2}e-mail to bob for order 2$/m,
  ],
  "import.ts": [
    /^queue {3}{"ready":3,"delayed":1,"processing":0,"blocked":0,"completed":0,"dead":0}$/m,
    /^watch {3}customers.csv: completed {2}{"percent":100} {2}{"rows":1000}$/m,
    /^worker {2}job 2 failed and will be tried again$/m,
    /^dead {4}job 2, orders.csv, after 2 errors: line 7 of orders.csv is no order$/m,
    /^watch {3}orders.csv: completed /m,
    /^watch {3}archive.csv: completed /m,
    /^queue {3}{"ready":0,"delayed":0,"processing":0,"blocked":0,"completed":4,"dead":0}$/m,
  ],
  "kysely.ts": [
    /^shop {4}order 1 is placed\nshop {4}card declined\nshop {4}1 order, 1 e-mail$/m,
    /^worker {2}e-mail to alice for order 1$/m,
  ],
  "ledger.ts": [
    /^balance {2}alice 167, bob 333$/m,
    /^rebuilt {2}alice 501, bob 999$/m,
    /^receipts alice 334, bob 666$/m,
  ],
  "locks.ts": [
    /^process 1 makes the report$/m,
    /^main {6}process 1 is killed$/m,
    /^process [23] has made the report$/m,
    /^main {6}reports: 1$/m,
    /^main {6}guard: the lock warehouse is lost/m,
    /^main {6}withLock returns 42$/m,
  ],
  "outbox.ts": [
    /^shop {5}mallory's order is rolled back: card declined$/m,
    /^outbox {3}job 1 will be tried again: Error: the partner answered 503$/m,
    /^partner {2}has received 1: {"order":1,"customer":"alice"}\npartner {2}has received 2: {"order":2,"customer":"bob"}$/m,
  ],
  "quickstart.ts": [
    /^shop {4}order 10 and its e-mail are committed$/m,
    /^mailer {2}job 10: e-mail to customer-10@example.com, [\d.]+ ms after it was enqueued$/m,
    /^shop {4}order 11 is rolled back \(card declined\), and so is its e-mail$/m,
    /^shop {4}commit to mailer: median [\d.]+ ms, slowest [\d.]+ ms$/m,
  ],
  "rate-limit.ts": [
    /^(client {3}20 calls, \d+ refused by the partner\n){3}/m,
    /^visitor {2}alice: 200 0 left\nvisitor {2}alice: 429 too many, comes again within the hour\nvisitor {2}bob: 200 1 left$/m,
    /^main {5}waits no longer than it was told$/m,
  ],
  "scheduler.ts": [
    /^main {5}02:30 in Berlin is at 0 or 1 o'clock in UTC$/m,
    /^main {5}another one leads: true\nmain {5}milliseconds between boundaries: 500$/m,
    /^main {5}heartbeat is paused$/m,
    /^process {2}makes a long report$/m,
    /^main {5}scheduler.add: typo: cron "0 25 \* \* \*": hour \(field 2\): 25 is not from 0 to 23$/m,
  ],
  "sse.ts": [
    /^browser {2}2 {"text":"first"}\nbrowser {2}3 {"text":"second"}\nbrowser {2}has lost its connection$/m,
    /^browser {2}4 {"text":"third"}\nbrowser {2}5 {"text":"fourth"}\nbrowser {2}6 {"text":"fifth"}$/m,
  ],
  "tasks.ts": [
    /^main {5}report.txt has 1000 words$/m,
    /^main {5}novel.txt is completed {"percent":100}$/m,
    /^main {5}novel.txt has 900 words$/m,
    /^main {5}3 attempts: missing.txt is not there$/m,
    /^main {5}cancelled: true$/m,
    /^worker {3}has cleaned up$/m,
    /^worker {3}has stopped$/m,
  ],
  "thumbnails.ts": [
    /^album {4}has 10000 images, and is blocked$/m,
    /^album {4}1 is done: 9996 thumbnails$/m,
    /^failed {3}image 1 is no image, image 2501 is no image, image 5001 is no image, image 7501 is no image$/m,
    /^last {5}100 took \d+ ms each, by the median$/m,
  ],
  "worker.ts": [
    /^sent {5}to alice@example.com, attempt 1$/m,
    /^sent {5}to busy-bob@example.com, attempt 1$/m,
    /^failed {3}job 3, attempt 2: Error: the mail service answered 503$/m,
    /^sent {5}to down-dora@example.com, attempt 3$/m,
    /^gave up {2}job 4: UnrecoverableError: there is no noone@example.com$/m,
    /^stopped {2}with 1 in the dead letters$/m,
  ],
};

/** Tests, and modules that others use. */
const OTHERS = ["newsletter.ts", "shop.ts", "testing.test.ts", "thumbnail.ts"];

test("every example is run by a test", () => {
  expect(readdirSync(EXAMPLES).sort()).toEqual([...Object.keys(PRINTED), ...OTHERS].sort());
});

test("examples/testing.test.ts passes", async () => {
  const child = Bun.spawn([process.execPath, "test", "./testing.test.ts"], {
    cwd: EXAMPLES,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, code] = await within(Promise.all([child.stderr.text(), child.exited]), "its end");
  expect(out).toMatch(/^ *8 pass$/m);
  expect(code).toBe(0);
}, 30_000);

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
