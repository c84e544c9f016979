/** The base of every error that honkbun throws on purpose; `code` is stable and may be compared. */
export abstract class HonkbunError extends Error {
  abstract readonly code: string;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A file or handle cannot be opened as a honkbun database; `code` says why. */
export class OpenError extends HonkbunError {
  readonly code: string;
  readonly path: string;

  constructor(
    reason:
      | "DIRECTORY"
      | "MISSING_FOLDER"
      | "READ_ONLY"
      | "NOT_A_DATABASE"
      | "DAMAGED"
      | "NEWER_VERSION"
      | "NO_WAL"
      | "FAILED",
    path: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = `HONKBUN_OPEN_${reason}`;
    this.path = path;
  }
}

/** The database file, its WAL or the WAL's index was replaced or removed, or the file emptied, while it was open. */
export class FileReplacedError extends HonkbunError {
  readonly code = "HONKBUN_FILE_REPLACED";
  readonly path: string;

  constructor(path: string, what: string) {
    super(
      `${what} while honkbun had it open: what this handle writes nobody could read. ` +
        "Close it and open the path again",
    );
    this.path = path;
  }
}

/** A call on a handle after `close()`. */
export class ClosedError extends HonkbunError {
  readonly code = "HONKBUN_CLOSED";
}

/** The write lock was not free within `busyTimeout`, or cannot become free while this call waits. */
export class BusyError extends HonkbunError {
  readonly code = "HONKBUN_BUSY";
}

/** `{ tx }` names a handle that is not inside a transaction on this database. */
export class TransactionRequiredError extends HonkbunError {
  readonly code = "HONKBUN_TRANSACTION_REQUIRED";
}

/** A send found the application's handle inside a transaction that `db.transaction` did not begin. */
export class AmbiguousTransactionError extends HonkbunError {
  readonly code = "HONKBUN_AMBIGUOUS_TRANSACTION";
}

/** A payload cannot be stored as JSON, or does not fit its schema. */
export class PayloadError extends HonkbunError {
  readonly code = "HONKBUN_PAYLOAD";
}

/** SQLite has reported no error, and yet what was sent is not in the file. */
export class NotStoredError extends HonkbunError {
  readonly code = "HONKBUN_NOT_STORED";
}

/** The job is no longer held by this claim: taken over, cancelled, buried or ended by somebody else. */
export class ClaimLostError extends HonkbunError {
  readonly code = "HONKBUN_CLAIM_LOST";
}

/** The job was settled before, by this very claim. */
export class JobSettledError extends HonkbunError {
  readonly code = "HONKBUN_JOB_SETTLED";
}

/** `onDuplicate: "reject"` found another job that has the unique key. */
export class DuplicateJobError extends HonkbunError {
  readonly code = "HONKBUN_DUPLICATE_JOB";
  /** Of that job. */
  readonly id: number;

  constructor(message: string, id: number) {
    super(message);
    this.id = id;
  }
}

/** The lock is no longer held by this acquisition: it expired and was taken over, or was released. */
export class LockLostError extends HonkbunError {
  readonly code = "HONKBUN_LOCK_LOST";
}

/** Notifications were pruned before this listener could read them. */
export class LaggedError extends HonkbunError {
  readonly code = "HONKBUN_LAGGED";
  /** How many were missed. Where their channels are unknown, how many were at most. */
  readonly missed: number;

  constructor(message: string, missed: number) {
    super(message);
    this.missed = missed;
  }
}

/** Events were trimmed before this consumer could read them. */
export class OffsetTrimmedError extends HonkbunError {
  readonly code = "HONKBUN_OFFSET_TRIMMED";
  /** Events of the topic up to this offset are gone. */
  readonly through: number;

  constructor(message: string, through: number) {
    super(message);
    this.through = through;
  }
}

/** The job was cancelled, here or in another process: the reason of `job.signal`, and of a wait for its result. */
export class JobCancelledError extends HonkbunError {
  readonly code = "HONKBUN_JOB_CANCELLED";
}

/** The job was not claimed within its `expiresIn`. */
export class JobExpiredError extends HonkbunError {
  readonly code = "HONKBUN_JOB_EXPIRED";
}

/** The handler was still running after its `timeout`: the reason of `job.signal`, and the error of the attempt. */
export class JobTimeoutError extends HonkbunError {
  readonly code = "HONKBUN_JOB_TIMEOUT";
}

/** The worker was stopped, and the time it had for that is over: the reason of `job.signal`. */
export class WorkerStoppedError extends HonkbunError {
  readonly code = "HONKBUN_WORKER_STOPPED";
}

/** Thrown by a handler on purpose: the job is buried at once, whatever attempts are left. */
export class UnrecoverableError extends HonkbunError {
  readonly code = "HONKBUN_UNRECOVERABLE";
}

/** No worker of this process knows the task that a job names. */
export class UnknownTaskError extends HonkbunError {
  readonly code = "HONKBUN_UNKNOWN_TASK";
}

/** A failed attempt. */
export interface AttemptError {
  /** The number of the attempt, from 1; 0 for what ended the job before it was first claimed. */
  readonly attempt: number;
  readonly message: string;
  readonly stack?: string;
  readonly at: Date;
}

/** The job whose result was waited for has failed for good. */
export class JobFailedError extends HonkbunError {
  readonly code = "HONKBUN_JOB_FAILED";
  /** One for each attempt, in order. */
  readonly errors: readonly AttemptError[];

  constructor(message: string, errors: readonly AttemptError[]) {
    super(message);
    this.errors = errors;
  }
}

/** The result that was waited for is not kept, or no longer. */
export class ResultNotKeptError extends HonkbunError {
  readonly code = "HONKBUN_RESULT_NOT_KEPT";
}

/** What was waited for did not happen within the `timeout`. */
export class WaitTimeoutError extends HonkbunError {
  readonly code = "HONKBUN_WAIT_TIMEOUT";
}
