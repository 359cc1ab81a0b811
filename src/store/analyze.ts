import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { columnNames } from './column.js';
import { longSession, type SessionOptions } from './index-session.js';
import { vectorTable } from './table.js';

/**
 * Has the planner know what a space was filled with. It takes columns that nobody has analyzed yet for all but empty, and
 * reads the whole table rather than the vector index. Where the role may not, PostgreSQL warns and does nothing.
 */
export async function analyzeSpace(
  db: Database,
  { relation }: Source,
  space: Space,
  options: SessionOptions,
): Promise<void> {
  const columns = Object.values(columnNames(space)).join(', ');
  const what =
    space.store === 'column' ? `${qualified(relation.schema, relation.table)} (${columns})` : vectorTable(space);
  await longSession(db, options, (session) => session.query(`ANALYZE ${what}`));
}
