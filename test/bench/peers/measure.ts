// One measurement, in a process of its own: prints its figures, or null where the subject cannot be had. Arguments: topic, question,
// subject, the place as JSON, and in a process that helps with it, its role.
import type { Place } from "./place.ts";
import { TOPICS } from "./topics.ts";

const [topic = "", question = "", subject = "", json = "", role] = process.argv.slice(2);
const place: Place = JSON.parse(json);
const asked = TOPICS[topic]?.questions[question];
if (role === undefined) {
  const figures = await asked?.measure(subject, place);
  process.stdout.write(`\n${JSON.stringify(figures ?? null)}\n`);
} else await asked?.helpers?.[role]?.(subject, place);
process.exit();
