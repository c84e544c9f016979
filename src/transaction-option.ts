import type { Database } from "bun:sqlite";

/** A `bun:sqlite` handle inside a transaction. With Drizzle: `orm.$client`, not Drizzle's `tx`. */
export type Tx = Database;

export interface TxOption {
  /** Sends on the transaction that is open on this handle. Default: the open `db.transaction`, else a commit of its own. */
  readonly tx?: Tx | undefined;
}
