// One measurement, in a process of its own: prints jobs per second, or null where the peer cannot be had.
// Arguments: question, peer, folder, the port of Redis, the address of PostgreSQL.
import { PEERS } from "./peers.ts";
import { QUESTIONS } from "./questions.ts";

const [question = "", name = "", folder = "", redis, postgres] = process.argv.slice(2);
const peer = await PEERS[name]?.open({
  folder,
  redis: redis ? Number(redis) : undefined,
  postgres: postgres || undefined,
});
const figure = peer ? await QUESTIONS[question]?.measure(peer) : null;
await peer?.close();
process.stdout.write(`\n${JSON.stringify(figure ?? null)}\n`);
process.exit();
