// Judges processes, given by pid and start. Argument: "unprivileged" for a user whom permissions bind.
import { judge, ownIdentity } from "../../../src/liveness/process-identity.ts";
import { dropPrivileges } from "../unprivileged.ts";
import { answer } from "./channel.ts";

const own = ownIdentity();
// Only now, with everything loaded: the sources and bun itself may lie where nobody else can read.
if (process.argv[2] === "unprivileged") dropPrivileges();

await answer((other: { readonly pid: number; readonly startedAt: string }) =>
  own === null ? null : judge({ ...other, scope: own.scope }),
);
