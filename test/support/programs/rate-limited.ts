// Uses two rate limits up, together with others, and tells how much of each it was allowed. Argument: path.
import { open } from "../../../src/index.ts";
import { answer, say } from "./channel.ts";

const [path = ""] = process.argv.slice(2);
const clock = (): number => 1_000_000_000_000; // the same for all
const db = open(path, { clock, busyTimeout: "30s" });
const fixed = db.rateLimit("fixed", { limit: 500, per: "1h" });
const bucket = db.rateLimit("bucket", { limit: 500, per: "1h", algorithm: "token-bucket" });
say("ready");
await answer(() => {
  const counts = { fixed: 0, bucket: 0 };
  for (let n = 0; n < 400; n++) {
    if (fixed.try().allowed) counts.fixed++;
    if (bucket.try().allowed) counts.bucket++;
  }
  return counts;
});
