// A batch with a callback: 10,000 thumbnails, made by a handler in threads, and one job that runs after all of them.
// Run it with: bun examples/thumbnails.ts [how many]
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "honkbun";

import type { Image } from "./thumbnail.ts";

const count = Number(process.argv[2] ?? 10_000);
const folder = mkdtempSync(join(tmpdir(), "honkbun-thumbnails-"));
const db = open(join(folder, "app.db"));
const thumbnails = db.queue<Image>("thumbnails");
const albums = db.queue<{ readonly album: number; readonly images: readonly number[] }>("albums");
thumbnails.setLimits({ keepCompleted: { maxCount: 100 } });

// All of the album or nothing; an image that is added twice has one thumbnail.
db.transaction(() => {
  const images = thumbnails.enqueueMany(
    Array.from({ length: count }, (_, image) => ({ album: 1, image })),
    ({ album, image }) => ({ uniqueKey: `${album}/${image}` }),
  );
  albums.enqueue({ album: 1, images }, { after: images, ifFailed: "run" });
});
console.log(`album    has ${thumbnails.counts().ready} images, and is ${albums.list()[0]?.state}`);

const making = thumbnails.work(new URL("./thumbnail.ts", import.meta.url), { concurrency: 2, timeout: "1m" });
const done = Promise.withResolvers<void>();
const finishing = albums.work((job) => {
  const failed = thumbnails.dead.list().map(({ errors }) => errors[0]?.message);
  console.log(
    `album    ${job.payload.album} is done: ${job.payload.images.length - failed.length} thumbnails`,
  );
  console.log(`failed   ${failed.join(", ")}`);
  done.resolve();
});
await done.promise;
await Promise.all([making.stop(), finishing.stop()]);

const times = thumbnails
  .list({ state: "completed" })
  .map(({ startedAt, completedAt }) => Number(completedAt) - Number(startedAt))
  .sort((a, b) => a - b);
console.log(`last     ${times.length} took ${times[times.length >> 1]} ms each, by the median`);
db.close();
rmSync(folder, { recursive: true });
