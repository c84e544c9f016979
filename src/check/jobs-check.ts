import { SQLiteError } from "bun:sqlite";

import { toUnixSeconds } from "../clock.ts";
import { judge } from "../liveness/process-identity.ts";
import type { Connection } from "../sqlite/connection.ts";
import type { Finding } from "./finding.ts";

/** Seconds for which a job may be out of attempts, or its claim or itself may have expired, before somebody should have seen to it. */
const OVERDUE = 60;
/** Seconds by which another machine, or a clock that was set back, may be ahead. */
const AHEAD = 60;

/** Jobs that nobody will run as they are, claims that nobody holds, and rows from the future. */
export function checkJobs(connection: Connection, now: number): Finding[] {
  const seconds = toUnixSeconds(now);
  return [stuck, orphaned, ahead].flatMap((look) => {
    try {
      return look(connection, seconds);
    } catch (error) {
      // Without its tables, which is told.
      if (error instanceof SQLiteError && /^no such (table|column)/.test(error.message)) return [];
      throw error;
    }
  });
}

const STUCK: readonly { readonly where: string; readonly what: string; readonly advice: string }[] = [
  {
    where: `state = 'processing' AND (typeof(claim_expires_at) <> 'integer' OR claim_expires_at < ?1 - ${OVERDUE})`,
    what: "were claimed, and the claim has expired",
    advice: "The next worker of the queue frees them: start one, or cancel them.",
  },
  {
    where: `state = 'pending' AND attempts >= max_attempts AND run_at < ?1 - ${OVERDUE}`,
    what: "have no attempts left",
    advice: "The next worker of the queue moves them to the dead letters: start one, or cancel them.",
  },
  {
    where: `state <> 'processing' AND expires_at < ?1 - ${OVERDUE}`,
    what: "have expired",
    advice: "The next worker of the queue moves them to the dead letters: start one, or cancel them.",
  },
  {
    where: `state = 'waiting' AND NOT EXISTS (
      SELECT 1 FROM _honkbun_dependencies WHERE child = _honker_live.id AND outcome <> 1)`,
    what: "wait for others that have ended",
    advice: "Something has written to _honkbun_dependencies by hand. Cancel and enqueue them again.",
  },
  {
    where: `state = 'blocked' AND NOT EXISTS (
      SELECT 1 FROM _honker_live AS other WHERE other.queue = _honker_live.queue
        AND other.group_key = _honker_live.group_key AND other.group_seq IS NOT NULL AND other.state <> 'blocked')`,
    what: "wait for their group, in which nothing runs",
    advice: "Something has written to _honker_live by hand. Cancel and enqueue them again.",
  },
  {
    where: `id NOT BETWEEN ${Number.MIN_SAFE_INTEGER} AND ${Number.MAX_SAFE_INTEGER}`,
    what: "have ids beyond 2^53",
    advice: "No JavaScript number holds them. The next worker of the queue moves them to the dead letters.",
  },
];

function stuck(connection: Connection, seconds: number): Finding[] {
  return STUCK.flatMap(({ where, what, advice }) =>
    connection
      .prepare<{ queue: string; n: number }, [number]>(
        `SELECT queue, count(*) AS n FROM _honker_live WHERE ${where} AND ?1 = ?1 GROUP BY queue ORDER BY queue`,
      )
      .all(seconds)
      .map(({ queue, n }): Finding => ({ kind: "stuck-jobs", message: `${n} of ${queue} ${what}`, advice })),
  );
}

/** Claims that hold still, of processes that are gone. */
function orphaned(connection: Connection, seconds: number): Finding[] {
  const handles = connection
    .prepare<{ handle: string; pid: number; started_at: string; scope: string }>(
      "SELECT * FROM _honkbun_handles",
    )
    .all();
  const held = connection.prepare<{ n: number }, [string, number]>(
    `SELECT count(*) AS n FROM _honker_live
     WHERE state = 'processing' AND instr(worker_id, '~' || ?1 || '.') > 0 AND claim_expires_at >= ?2`,
  );
  return handles.flatMap(({ handle, pid, started_at: startedAt, scope }) => {
    if (judge({ pid, startedAt, scope }) !== "dead") return [];
    const n = held.get(handle, seconds)?.n ?? 0;
    if (n === 0) return [];
    return {
      kind: "orphaned-claims",
      message: `${n} claims are of process ${pid}, which is gone`,
      advice:
        "Whoever works, on whatever queue of the file, frees them within a second: start a worker, or wait for their expiry.",
    };
  });
}

function ahead(connection: Connection, seconds: number): Finding[] {
  const newest = connection
    .prepare<{ at: number | null }>(
      `SELECT max(at) AS at FROM (
         SELECT max(created_at) AS at FROM _honker_live WHERE typeof(created_at) = 'integer'
         UNION ALL SELECT created_at FROM (SELECT created_at FROM _honker_notifications ORDER BY id DESC LIMIT 1)
         UNION ALL SELECT created_at FROM (SELECT created_at FROM _honker_stream ORDER BY offset DESC LIMIT 1))
       WHERE typeof(at) = 'integer'`,
    )
    .get()?.at;
  if (typeof newest !== "number" || newest <= seconds + AHEAD) return [];
  const written = new Date(newest * 1_000);
  const when = Number.isNaN(written.getTime()) ? `second ${newest}` : written.toISOString();
  return [
    {
      kind: "clock",
      message: `something was written at ${when}, which is ${newest - seconds} s ahead of this clock`,
      advice: "Delays, expiries and schedules go by the clocks of those who write. Set them alike, by NTP.",
    },
  ];
}
