import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { columnNames } from './column.js';
import { longSession, type SessionOptions } from './index-session.js';
import { indexedRelation } from './index-state.js';

/** Of the app's table only the columns that are the space's. */
export function analyzeSql(source: Source, space: Space): string {
  const { schema, table } = indexedRelation(source, space);
  const columns = space.store === 'column' ? ` (${Object.values(columnNames(space)).join(', ')})` : '';
  return `ANALYZE ${qualified(schema, table)}${columns}`;
}

/**
 * Has the planner know what a space was filled with. It takes columns that nobody has analyzed yet for all but empty, and
 * reads the whole table rather than the vector index. Where the role may not, PostgreSQL warns and does nothing.
 */
export async function analyzeSpace(db: Database, source: Source, space: Space, options: SessionOptions): Promise<void> {
  await longSession(db, options, (session) => session.query(analyzeSql(source, space)));
}
