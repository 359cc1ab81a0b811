import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import type { Executor } from '../../db/database.js';
import { literal } from '../../db/identifiers.js';
import { columnsOf } from '../../store/column.js';
import { vectorTable } from '../../store/table.js';

/** SQL: what `pg_depend d` is of, in words; `r` is its rule, where it is that of a view. */
const NAME = `CASE WHEN r.oid IS NOT NULL THEN 'the view ' || r.ev_class::regclass
    WHEN d.classid = 'pg_proc'::regclass THEN 'the function ' || d.objid::regprocedure
    ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END`;
const FROM = `pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid`;

/** SQL: `d` stands on one of these columns of the table, or of its partitions. */
function onColumns({ relation }: Source, columns: readonly string[]): string {
  return `d.refclassid = 'pg_class'::regclass
      AND (d.refobjid = ${relation.oid} OR d.refobjid IN (SELECT relid FROM pg_partition_tree(${relation.oid})))
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        AND a.attname IN (${columns.map(literal).join(', ')}))`;
}

/** SQL for the views, and the functions with a body that the server has parsed, that stand on these columns. */
export function readersSql(source: Source, columns: readonly string[]): string {
  return `SELECT DISTINCT ${NAME} AS name FROM ${FROM}
    WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass) AND ${onColumns(source, columns)} ORDER BY 1`;
}

/** What of the app's PostgreSQL would not let a space's vectors be dropped for: views, triggers, generated columns, … */
export async function dependents(db: Executor, source: Source, space: Space): Promise<string[]> {
  const there =
    space.store === 'column'
      ? onColumns(source, columnsOf(space))
      : `d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(${literal(vectorTable(space))})`;
  // What belongs to a column goes with it, a check say, and what belongs to a table, such as its policies, with that.
  const belongs = space.store === 'column' ? 'o.refobjsubid = d.refobjsubid' : 'true';
  const rows = await db.query<{ name: string }>(
    `SELECT DISTINCT ${NAME} AS name FROM ${FROM}
     WHERE d.deptype = 'n' AND ${there} AND NOT EXISTS (
       SELECT FROM pg_depend o WHERE (o.classid, o.objid, o.refclassid, o.refobjid) = (d.classid, d.objid, d.refclassid, d.refobjid)
         AND ${belongs} AND o.deptype = 'a')
       AND NOT EXISTS (
       SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
       WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND f.pronamespace = 'freshvec'::regnamespace)
     ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

export function whyKept(standing: readonly string[]): string {
  return `${standing.join(', ')} stands on the old vectors: drop or change that first`;
}
