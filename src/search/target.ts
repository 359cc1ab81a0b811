import { fromSource } from '../catalog/expressions.js';
import { getSource, type Source } from '../catalog/source.js';
import { getSpace, listMaintainedSpaces, liveSpace, type Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';

export interface SourceColumn {
  readonly name: string;
  /** As `format_type` prints it; of a domain, the type that it stands on. */
  readonly baseType: string;
  /** Added by freshvec, for this source or another one on the same table. */
  readonly own: boolean;
}

/** Everything that a search must know beforehand, as it was at one moment; the guarded statement checks it. */
export interface SearchTarget {
  readonly source: Source;
  /** Of the pointer; 0 while there is none. */
  readonly epoch: number;
  /** The live space, or the one that was asked for by its id. */
  readonly space: Space;
  /** What the statement checks: that the pointer is as it was, or that this space still is there. */
  readonly guard: 'pointer' | 'space';
  /** Of the source's table, in their order. */
  readonly columns: readonly SourceColumn[];
  /** Changes with the definition of the source, its spaces or its table. */
  readonly version: string;
}

/**
 * A token that changes with every change of the source, of any source or space on the same table, and of the table's
 * row in pg_class (ADD COLUMN, ALTER TYPE): the ids of the transactions that wrote those rows last.
 * `source` is the alias of a freshvec.source; not `same`, `its` or `relation`.
 */
export function versionSql(source: string): string {
  return `pg_catalog.concat_ws('/',
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws('.', same.xmin, its.xmin), ',' ORDER BY its.id)
     FROM freshvec.source same JOIN freshvec.space its ON its.source_id = same.id
     WHERE same.relation_oid = ${source}.relation_oid),
    (SELECT relation.xmin FROM pg_catalog.pg_class relation
     WHERE relation.oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', ${source}.schema_name, ${source}.table_name))))`;
}

/** Reads the pointer and what it leads to; undefined while no space of the source is live. */
export async function readTarget(db: Executor, sourceName: string): Promise<SearchTarget | undefined> {
  const { source, version } = await readSource(db, sourceName);
  const live = await liveSpace(db, source.id);
  if (!live) return undefined;
  return { source, ...live, guard: 'pointer', columns: await readColumns(db, source), version };
}

/**
 * Reads one space of the source, whether it is live or not. Throws FreshvecError `source_unknown`, `space_unknown`,
 * `space_dropped`.
 */
export async function readSpaceTarget(db: Executor, sourceName: string, spaceId: number): Promise<SearchTarget> {
  const { source, version } = await readSource(db, sourceName);
  const space = await getSpace(db, spaceId);
  if (space?.sourceId !== source.id) throw spaceUnknown(source, spaceId, await listMaintainedSpaces(db, source.id));
  if (space.state === 'dropped') {
    throw new FreshvecError(
      'space_dropped',
      `Space ${spaceId} of "${sourceName}" (${space.fingerprint}) was dropped: its vectors are gone.`,
    );
  }
  const epoch = (await liveSpace(db, source.id))?.epoch ?? 0;
  return { source, space, epoch, guard: 'space', columns: await readColumns(db, source), version };
}

/** The version first: what changes after it was read makes the guard fail, never pass. */
async function readSource(db: Executor, sourceName: string): Promise<{ source: Source; version: string }> {
  const [row] = await db.query<{ version: string }>(
    `SELECT ${versionSql('__fv_o')} AS version FROM freshvec.source __fv_o WHERE __fv_o.name = $1`,
    [sourceName],
  );
  // A source that was added between the two statements is known by no version: the guard fails, and it is read anew.
  return { source: await getSource(db, sourceName), version: row?.version ?? '' };
}

function spaceUnknown(source: Source, id: number, spaces: readonly Space[]): FreshvecError {
  const known = spaces.map((space) => `${space.id} (${space.state}, ${space.fingerprint})`).join(', ');
  return new FreshvecError(
    'space_unknown',
    `"${source.name}" has no space ${id}.${known === '' ? '' : ` There are: ${known}.`}`,
  );
}

function readColumns(db: Executor, source: Source): Promise<SourceColumn[]> {
  return db.query<{ name: string; baseType: string; own: boolean }>(
    `SELECT a.attname AS name,
       (WITH RECURSIVE base AS (
          SELECT a.atttypid AS oid
          UNION ALL
          SELECT t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
        ) SELECT pg_catalog.format_type(b.oid, NULL) FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
        WHERE t.typtype <> 'd') AS "baseType",
       a.attname::text IN (SELECT o.column_name FROM freshvec.own_columns($2) o) AS own
     FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum`,
    [fromSource(source), source.relation.oid],
  );
}
