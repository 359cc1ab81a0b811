import { findSource, type Source } from '../catalog/source.js';
import { liveSpace, type Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import type { SourceDefinition } from './definition.js';

/** A source that is there already. */
export interface ExistingSource {
  readonly source: Source;
  readonly space: Space;
}

/**
 * The source that has this name already, if it is what was asked for. What the definition leaves open may be as it is.
 * Throws FreshvecError `source_exists`, naming what differs.
 */
export async function findSame(
  db: Executor,
  wanted: Source,
  space: Omit<Space, 'store'>,
  definition: SourceDefinition,
): Promise<ExistingSource | undefined> {
  const source = await findSource(db, wanted.name);
  if (!source) return undefined;
  const live = await liveSpace(db, source.id);
  const differs = [
    ...(source.relation.oid === wanted.relation.oid ? [] : ['table']),
    ...(same(source.content, wanted.content) ? [] : ['content']),
    ...(source.filter === wanted.filter ? [] : ['filter']),
    ...(source.tenantColumn === wanted.tenantColumn ? [] : ['tenant']),
    ...(definition.longTexts === undefined || source.longTexts === wanted.longTexts ? [] : ['choice for long texts']),
    ...(live ? spaceDifferences(live.space, space, definition) : ['space']),
  ];
  if (live && differs.length === 0) return { source, space: live.space };
  throw new FreshvecError(
    'source_exists',
    differs.includes('table')
      ? `There is a source "${wanted.name}" already, on ${source.relation.schema}.${source.relation.table}. Choose another name with \`--name\`.`
      : `There is a source "${wanted.name}" already, with another ${differs.join(', ')}. Change content, filter or long texts with ` +
          '`freshvec source alter`, or add a second source on the table with `--name` and `--column`.',
  );
}

function spaceDifferences(live: Space, wanted: Omit<Space, 'store'>, definition: SourceDefinition): string[] {
  const { index } = live;
  return [
    ...(live.fingerprint === wanted.fingerprint ? [] : ['model']),
    ...(definition.store === undefined || live.store === definition.store ? [] : ['store']),
    ...(live.store === 'table' || live.column === wanted.column ? [] : ['column']),
    ...(live.type === wanted.type ? [] : ['type']),
    ...(live.metric === wanted.metric ? [] : ['metric']),
    ...(same(index, wanted.index) ? [] : ['index']),
  ];
}

/** Both are built field by field in one order, here and in the catalog. */
function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Columns that freshvec writes on this table for any source, with whose they are. */
export async function ownColumns(db: Executor, oid: number): Promise<{ column: string; source: string }[]> {
  return db.query<{ column: string; source: string }>(
    `SELECT column_name AS "column", source FROM freshvec.own_columns($1)`,
    [oid],
  );
}
