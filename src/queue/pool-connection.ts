import {
  assertSchemaCompatibility,
  type BackendFactory,
  type IQueueBackend,
  LATEST_SCHEMA_VERSION,
  type PgPool,
  type PgQueryable,
  PostgresConnection,
  PostgresQueueBackend,
  SchemaMigrationRequiredError,
} from 'bullmq';
import { sqlState } from '../db/errors.js';

/** Where BullMQ's own tables stand, apart from freshvec's and from the app's. */
export const DEFAULT_QUEUE_SCHEMA = 'freshvec_bullmq';

/**
 * BullMQ's connection over a pool of ours, in a schema of our choice (it assumes its default schema for pools that it
 * did not make). The schema has been checked once when the queue was opened: BullMQ's own check keeps its first
 * failure for ever, so a connection made while the server is away would never work.
 */
class PoolConnection extends PostgresConnection {
  override readonly schema: string;
  constructor(pool: PgPool, schema: string) {
    super(pool);
    this.schema = schema;
  }
  override async waitUntilReady(): Promise<void> {}
}

export function poolFactory(pool: PgPool, schema: string): BackendFactory<IQueueBackend> {
  return (name, opts, extra) => {
    const connection = new PoolConnection(pool, schema);
    // A worker's options carry its name; what it is told by in pg_stat_activity is BullMQ's convention.
    const suffix = 'name' in opts && typeof opts.name === 'string' ? `:w:${opts.name}` : '';
    const listenerName = extra?.withBlockingConnection ? `${name}${suffix}` : undefined;
    return new PostgresQueueBackend(connection, name, { ...opts, connection: pool }, true, listenerName);
  };
}

/** True when BullMQ's tables are missing or older than this BullMQ; throws when they are too new for it. */
export async function needsMigration(db: PgQueryable, schema: string): Promise<boolean> {
  try {
    return (await assertSchemaCompatibility(db, schema)) < LATEST_SCHEMA_VERSION;
  } catch (error) {
    if (error instanceof SchemaMigrationRequiredError) return true;
    throw error;
  }
}

/**
 * What to throw to BullMQ for a failed statement. It pauses before it tries again only after the one socket error that
 * it knows, and repeats anything else without a pause; so whatever its own functions did not raise (SQLSTATE BM…) is
 * reported here and goes on under that name: a server that restarts, is full, or has lost BullMQ's tables.
 */
export function asOutage(error: unknown, onError: (error: unknown) => void): unknown {
  if (sqlState(error)?.startsWith('BM')) return error;
  onError(error);
  return Object.assign(new Error('The queue cannot use its database', { cause: error }), { code: 'ECONNREFUSED' });
}
