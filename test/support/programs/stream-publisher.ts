// Publishes so many numbers to the topic "t", one per transaction or several. Arguments: path, name, how many.
import { open } from "../../../src/index.ts";

const [path = "", name = "", count = "0"] = process.argv.slice(2);
using db = open(path);
const stream = db.stream<{ readonly name: string; readonly n: number }>("t");
for (let n = 0; n < Number(count);) {
  if (n % 7 === 0) {
    const size = Math.min(10, Number(count) - n);
    stream.publishMany(Array.from({ length: size }, (_, index) => ({ name, n: n + index })));
    n += size;
  } else stream.publish({ name, n: n++ });
  if (n % 50 === 0) await Bun.sleep(0);
}
