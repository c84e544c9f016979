// What is wrong with a file, or may become so: for a health check, or by hand. Ends with 1 when something was found.
// bun examples/check.ts app.db
import { type CheckReport, type Finding, open } from "honkbun";

await using db = open(process.argv[2] ?? "app.db");
const { findings, wal }: CheckReport = db.check();
for (const finding of findings) tell(finding);
if (findings.length === 0) console.log(`all is well; the WAL has ${wal?.bytes ?? 0} bytes`);
else process.exitCode = 1;

function tell({ kind, message, advice }: Finding): void {
  console.log(`${kind}: ${message}. ${advice}`);
}
