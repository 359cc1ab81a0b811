import type { Database } from './database.js';
import type { PostgresOptions } from './postgres.js';

/** Where the database is. */
export type DatabaseTarget =
  | ({ readonly kind: 'postgres' } & PostgresOptions)
  | { readonly kind: 'pglite'; readonly dataDir?: string | undefined };

/** Opens a database. PGlite is loaded only when it is asked for: its WebAssembly is 10 MB. */
export async function openDatabase(target: DatabaseTarget): Promise<Database> {
  if (target.kind === 'postgres') {
    const { openPostgres } = await import('./postgres.js');
    return openPostgres(target);
  }
  const { openPglite } = await import('./pglite.js');
  return openPglite({ dataDir: target.dataDir });
}
