import type { Database } from '../db/database.js';
import { longSession, type SessionOptions } from './index-session.js';

/** What VACUUM pays attention to besides its work: as gentle as autovacuum. */
const COST_DELAY = '2ms';

/** Without giving pages back to the disk at the end: that takes a lock that the app would wait for. */
export function vacuumSql(table: string): string {
  return `VACUUM (ANALYZE, TRUNCATE FALSE) ${table}`;
}

/** Vacuums one table gently, for as long as it takes or until the signal aborts. `table`: quoted, with its schema. */
export async function vacuumTable(db: Database, table: string, options: SessionOptions): Promise<void> {
  await longSession(db, options, async (session) => {
    // The embedded database has one connection: a pause of ours would be everybody's. (It fails with ANALYZE besides.)
    if (db.kind !== 'pglite') await session.query(`SET vacuum_cost_delay = '${COST_DELAY}'`);
    await session.query(vacuumSql(table));
  });
}
