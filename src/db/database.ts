/** A row as it comes back: column name → value. int8 is a number, json is parsed, timestamps are Date. */
export type Row = Record<string, unknown>;

export interface StatementOptions {
  /** The last one of its transaction: COMMIT is sent along with it, so that locks are not held while we read the answer. */
  readonly last?: boolean;
}

/** Runs one parameterised statement. A Buffer parameter is sent in PostgreSQL's binary format of its type. */
export interface Executor {
  query<R extends Row = Row>(text: string, params?: readonly unknown[], options?: StatementOptions): Promise<R[]>;
}

export type DatabaseKind = 'postgres' | 'pglite';

/** Where pgvector lives in this database. */
export interface VectorExtension {
  /** Schema that holds the types and operators, not quoted. */
  readonly schema: string;
  readonly version: string;
}

export interface TxOptions {
  /**
   * False: the commit gives its locks up without waiting for the disk or for synchronous replicas. A server that crashes
   * may take such transactions back, those of the last 0.6 s at most (three times wal_writer_delay), and none without all
   * that came after it. True unless told.
   */
  readonly flushed?: boolean;
  /**
   * The first statement is sent along with BEGIN. Only where it does no harm by itself, which it is run as should the
   * server cancel the BEGIN; the transaction throws then.
   */
  readonly eager?: boolean;
}

/**
 * One database, behind node-postgres or PGlite. All of freshvec talks through this and through nothing else.
 *
 * Statements that render or compare text run inside `tx`, which pins the settings that change how values become text
 * (TimeZone, DateStyle, IntervalStyle, extra_float_digits, bytea_output), so that every process computes the same hash.
 */
export interface Database extends Executor {
  /** READ COMMITTED, whatever the database's default is; not for what cannot run in a transaction. */
  query<R extends Row = Row>(text: string, params?: readonly unknown[]): Promise<R[]>;
  readonly kind: DatabaseKind;
  /** READ COMMITTED transaction with pinned settings. Rolls back and rethrows when `fn` throws. Not nested. */
  tx<T>(fn: (tx: Executor) => Promise<T>, options?: TxOptions): Promise<T>;
  /** One connection outside a transaction, on the direct URL: CREATE INDEX CONCURRENTLY, SET that must last. */
  session<T>(fn: (session: Executor) => Promise<T>): Promise<T>;
  /** Several statements without parameters, as one simple query (migrations). */
  exec(sql: string): Promise<void>;
  /** Starts listening on the direct URL; re-established after a lost connection. Resolves to a stop function. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<() => Promise<void>>;
  /** Where pgvector is installed; undefined when it is not. */
  vectorExtension(): Promise<VectorExtension | undefined>;
  close(): Promise<void>;
}
