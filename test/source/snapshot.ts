import type { Database } from '../../src/db/database.js';

/** What a dump of the schema would hold of the app's tables and of freshvec's functions; and freshvec's own rows. */
export async function snapshot(db: Database): Promise<Record<string, unknown>> {
  const read = (sql: string) => db.query(sql);
  return {
    relations: await read(
      `SELECT c.oid::regclass::text AS name, c.relkind, c.reloptions, c.relrowsecurity, c.relreplident
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname !~ '^pg_|^information_schema$' AND NOT (n.nspname = 'freshvec' AND c.relname ~ '^change|^range') ORDER BY 1`,
    ),
    columns: await read(
      `SELECT a.attrelid::regclass::text AS relation, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
         a.attstorage, a.attgenerated, pg_get_expr(d.adbin, d.adrelid) AS default
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
       WHERE n.nspname !~ '^pg_|^information_schema$' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2`,
    ),
    triggers: await read(
      `SELECT pg_get_triggerdef(t.oid) AS def, t.tgenabled FROM pg_trigger t WHERE NOT t.tgisinternal ORDER BY 1`,
    ),
    functions: await read(
      `SELECT p.oid::regprocedure::text AS name, p.prosrc, p.proacl::text, p.prosecdef, p.proconfig
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
       WHERE n.nspname IN ('public', 'freshvec') AND NOT EXISTS (
         SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1`,
    ),
    indexes: await read(`SELECT indexdef FROM pg_indexes WHERE schemaname !~ '^pg_|^information_schema$' ORDER BY 1`),
    sources: await read(
      'SELECT id, name, content_columns, content_sql, base_columns, filter_sql FROM freshvec.source ORDER BY id',
    ),
    spaces: await read('SELECT id, source_id, state FROM freshvec.space ORDER BY id'),
    work: await read(
      `SELECT 'range' AS kind, count(*)::int AS n FROM freshvec.range UNION ALL SELECT 'change', count(*)::int FROM freshvec.change_key
       UNION ALL SELECT 'lease', count(*)::int FROM freshvec.lease UNION ALL SELECT 'failure', count(*)::int FROM freshvec.failure`,
    ),
  };
}
