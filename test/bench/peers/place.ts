import { basename } from "node:path";

import { Process } from "../../support/process.ts";

/** Where something that is measured keeps what it stores: each measurement has a place of its own. */
export interface Place {
  readonly folder: string;
  /** Of servers that are running; undefined where they are not. */
  readonly redis: Server | undefined;
  readonly postgres: Server | undefined;
}

export interface Server {
  readonly url: string;
  readonly pid: number;
}

/** A name that no other measurement has, for what is kept on a server. */
export function nameOf({ folder }: Place): string {
  return basename(folder).replaceAll("-", "_").toLowerCase();
}

/** Starts another process that plays `role` in this measurement: see measure.ts. */
export function spawnHelper(role: string): Process {
  const [topic = "", question = "", subject = "", place = ""] = process.argv.slice(2);
  return new Process(Bun.main.replace(/\.ts$/, ""), topic, question, subject, place, role);
}
