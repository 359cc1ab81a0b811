import { fromSource } from '../catalog/expressions.js';
import { getSource, type Source } from '../catalog/source.js';
import { liveSpace, type Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

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
  /** Of the pointer. */
  readonly epoch: number;
  /** The live space. */
  readonly space: Space;
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
  // The version first: what changes after it was read makes the guard fail, never pass.
  const [row] = await db.query<{ version: string }>(
    `SELECT ${versionSql('__fv_o')} AS version FROM freshvec.source __fv_o WHERE __fv_o.name = $1`,
    [sourceName],
  );
  const source = await getSource(db, sourceName);
  const live = await liveSpace(db, source.id);
  if (!row || !live) return undefined;
  return { source, ...live, columns: await readColumns(db, source), version: row.version };
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
       EXISTS (
         SELECT FROM freshvec.source o
         JOIN freshvec.space s ON s.source_id = o.id AND s.store = 'column' AND s.state <> 'dropped'
         WHERE o.relation_oid = $2 AND a.attname::text IN (
           s.column_name, s.column_name || '_model', s.column_name || '_hash', o.flag_column)
       ) AS own
     FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum`,
    [fromSource(source), source.relation.oid],
  );
}
