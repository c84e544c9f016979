import { Honkbun } from "../database.ts";
import { type Duration, show, toMilliseconds } from "../duration.ts";
import { ClaimLostError, ClosedError } from "../errors.ts";
import type { QueueContext } from "../queue/queue-context.ts";
import { Queue } from "../queue/queue.ts";
import type { Worker as JobWorker } from "../queue/work-options.ts";
import { QueueWorker, type WorkerHost } from "../queue/worker.ts";
import { threads } from "../threads.ts";

// biome-ignore lint/suspicious/noExplicitAny: of whatever type its payloads are
type AnyQueue = Queue<any, any, any>;

/** What the next handlers of each queue throw, by the database they are of. */
const failures = new WeakMap<QueueContext, Map<string, unknown[]>>();

/**
 * Lets the next attempt of a job of the queue fail with `error`, as if its handler had thrown it; called again, one more. The handler
 * that is not called is one of `work` in this process, of `drain` or of `perform`; `claim` and `claimBatch` have none.
 * @throws TypeError
 */
export function failNext(queue: AnyQueue, error: unknown): void {
  if (!(queue instanceof Queue)) {
    throw new TypeError(`failNext: queue must be a queue (of a task: task.queue), got ${show(queue)}`);
  }
  const { context, name } = queue;
  const byQueue = failures.get(context) ?? listen(context);
  byQueue.set(name, [...(byQueue.get(name) ?? []), error]);
}

function listen(context: QueueContext): Map<string, unknown[]> {
  const byQueue = new Map<string, unknown[]>();
  failures.set(context, byQueue);
  context.seams.starting.add((job) => {
    const waiting = byQueue.get(job.queue);
    if (waiting !== undefined && waiting.length > 0) throw waiting.shift();
  });
  return byQueue;
}

/**
 * Takes all jobs that are claimed away from whoever has claimed them, as if their claims had expired: they can be claimed again at
 * once, `job.signal` aborts, and an ack throws ClaimLostError. Returns how many there were.
 * @throws TypeError, BusyError, ClosedError
 */
export function loseClaims(target: Honkbun | AnyQueue): number {
  const isQueue = target instanceof Queue;
  if (!isQueue && !(target instanceof Honkbun)) {
    throw new TypeError(`loseClaims: target must be a database or a queue, got ${show(target)}`);
  }
  const context = isQueue ? target.context : target.internals.queues;
  return expire(context, "queue = ?2 OR ?2 IS NULL", isQueue ? target.name : null);
}

/**
 * Ends a worker as if its process had died: nothing is written any more, and the jobs that it held can be claimed again at once,
 * with the attempt used. Handlers that are running go on, because nothing can end them, and so does what they write by themselves;
 * their `job.signal` aborts.
 * @throws TypeError, BusyError, ClosedError
 */
export function killWorker(worker: JobWorker): void {
  if (!(worker instanceof QueueWorker)) {
    throw new TypeError(`killWorker: worker must be what work() has returned, got ${show(worker)}`);
  }
  const held = worker.die(new ClaimLostError("the worker was killed (killWorker)"));
  const claims = JSON.stringify(held.map(({ workerId }) => workerId));
  expire(worker.context, "worker_id IN (SELECT value FROM json_each(?2))", claims);
}

/** Lets claims expire now, and tells those of this handle that hold them. Returns how many there were. */
function expire({ pool, clock, loops }: WorkerHost, where: string, value: string | null): number {
  const expired = pool.writeAll(undefined, ({ handle }) =>
    handle
      .query<{ id: number }, [number, string | null]>(
        `UPDATE _honker_live SET worker_id = 'nobody~', claim_expires_at = ?1 / 1000 - 1
         WHERE state = 'processing' AND (${where}) RETURNING id`,
      )
      .all(clock(), value),
  );
  const ids = new Set(expired.map(({ id }) => id));
  for (const { id, lease } of loops.keeper.held) if (ids.has(id)) lease.lose(lease.lostError("loseClaims"));
  return ids.size;
}

/**
 * Holds the write lock of a database with a file (`testDatabase({ file: true })`) for so long, by the system's clock, as another
 * program would. Resolves when it is held.
 * @throws TypeError, RangeError, ClosedError; as rejections
 */
export async function busy(db: Honkbun, duration: Duration): Promise<void> {
  if (!(db instanceof Honkbun)) throw new TypeError(`busy: db must be a database, got ${show(db)}`);
  const { path, isClosed } = db.internals.queues.pool;
  const milliseconds = toMilliseconds(duration, "busy: duration");
  if (isClosed) throw new ClosedError("busy: this honkbun handle is closed");
  if (path === null) {
    throw new TypeError(
      "busy: nobody else can lock a database in memory: make it by testDatabase({ file: true })",
    );
  }
  const thread = new Worker(new URL("./lock-thread.ts", import.meta.url), { name: "honkbun busy" });
  threads.running++;
  thread.unref();
  thread.addEventListener("close", () => void threads.running--);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  thread.onmessage = () => resolve();
  thread.onerror = ({ message }) => reject(new Error(`busy: ${message}`));
  thread.postMessage({ path, milliseconds });
  await promise;
}
