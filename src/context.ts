import type { Clock } from "./clock.ts";
import { Liveness } from "./liveness/liveness.ts";
import { Seams } from "./seams.ts";
import type { Pool } from "./sqlite/pool.ts";
import { Alarms } from "./wake/alarms.ts";
import type { WakeHub } from "./wake/hub.ts";

/** What all modules of a honkbun handle share. */
export interface Context {
  readonly pool: Pool;
  readonly hub: WakeHub;
  readonly clock: Clock;
  readonly alarms: Alarms;
  readonly liveness: Liveness;
  readonly seams: Seams;
  readonly report: (error: unknown, where: string) => void;
}

export function createContext(
  pool: Pool,
  hub: WakeHub,
  clock: Clock,
  report: (error: unknown, where: string) => void,
): Context {
  return {
    pool,
    hub,
    clock,
    report,
    alarms: new Alarms(hub, clock),
    liveness: new Liveness(pool, hub, report),
    seams: new Seams(),
  };
}
