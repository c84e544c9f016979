import { resolve } from "node:path";

/** Opens the file in a process whom permissions bind, as they don't bind root. Returns its error, or null. */
export function openUnprivileged(file: string): unknown {
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const program = resolve(import.meta.dir, "programs/open-once.ts");
  const { stdout, stderr } = Bun.spawnSync(
    [...(process.getuid?.() === 0 ? nobody : []), process.execPath, program, file],
    { cwd: "/" },
  );
  const line = stdout.toString();
  if (line === "") throw new Error(`an unprivileged process cannot run ${program}: ${stderr}`);
  return JSON.parse(line);
}
