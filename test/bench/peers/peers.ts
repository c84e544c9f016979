import type { Peer } from "./peer.ts";
import { bare } from "./peers/bare.ts";
import { bullmq } from "./peers/bullmq.ts";
import { bunqueue, bunqueueBuffered } from "./peers/bunqueue.ts";
import { honkbun } from "./peers/honkbun.ts";
import { pgBoss } from "./peers/pg-boss.ts";
import { plainjob } from "./peers/plainjob.ts";

/** In the order of the table. */
export const PEERS: Readonly<Record<string, Peer>> = {
  honkbun,
  bare,
  plainjob,
  bunqueue,
  bunqueueBuffered,
  bullmq,
  pgBoss,
};
