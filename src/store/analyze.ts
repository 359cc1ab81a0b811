import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { columnNames } from './column.js';
import { longSession, type SessionOptions } from './index-session.js';
import { vectorTable } from './table.js';

export function analyzeSql({ relation }: Source, space: Space): string {
  if (space.store === 'table') return `ANALYZE ${vectorTable(space)}`;
  return `ANALYZE ${qualified(relation.schema, relation.table)} (${Object.values(columnNames(space)).join(', ')})`;
}

/**
 * Has the planner know what a space was filled with. It takes columns that nobody has analyzed yet for all but empty, and
 * reads the whole table rather than the vector index. Where the role may not, PostgreSQL warns and does nothing.
 */
export async function analyzeSpace(db: Database, source: Source, space: Space, options: SessionOptions): Promise<void> {
  await longSession(db, options, (session) => session.query(analyzeSql(source, space)));
}
