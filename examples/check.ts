// What is wrong with a file, or may become so: for a health check, or by hand. Ends with 1 when something was found.
// bun examples/check.ts app.db
import { open } from "honkbun";

await using db = open(process.argv[2] ?? "app.db");
const { findings, wal } = db.check();
for (const { kind, message, advice } of findings) console.log(`${kind}: ${message}. ${advice}`);
if (findings.length === 0) console.log(`all is well; the WAL has ${wal?.bytes ?? 0} bytes`);
else process.exitCode = 1;
