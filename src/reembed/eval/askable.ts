import {
  column,
  eligibleSql,
  fromSource,
  givenKeysSql,
  keyArrays,
  keyJoinSql,
  keySql,
  parseKey,
} from '../../catalog/expressions.js';
import type { LabelledQuery } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import type { Database } from '../../db/database.js';
import { readableOf } from '../../store/vectors.js';
import { refuseTenants } from './queries.js';

/** A labelled query that a search can answer. */
export interface AskableQuery {
  readonly query: string;
  readonly tenant?: string | undefined;
  /** The source's own text of the keys that a search of the query may find, one or more. */
  readonly relevant: ReadonlySet<string>;
}

export interface Askable {
  readonly queries: readonly AskableQuery[];
  /** Keys that the queries name and the source does not have. */
  readonly unknownKeys: readonly string[];
  /** Keys of rows that no search of the query finds: its filter leaves them out, they have no text, or another tenant. */
  readonly unfindableKeys: readonly string[];
}

/**
 * The queries with those of their keys that a search may find; a key is known by its text in the file: `007` is the row
 * 7. What no model can find would count as a miss of both, and hide how far the new one falls with the others.
 *
 * Throws FreshvecError `queries_invalid` where a query names a tenant and the source has none.
 */
export async function askable(db: Database, source: Source, queries: readonly LabelledQuery[]): Promise<Askable> {
  refuseTenants(source, queries);
  const named = keysOf(queries);
  const there = await lookUp(db, source, named, {});
  const asked: AskableQuery[] = [];
  const unfindable = new Set<string>();
  for (const tenant of new Set(queries.map((query) => query.tenant))) {
    const ofTenant = queries.filter((query) => query.tenant === tenant);
    const keys = keysOf(ofTenant);
    const findable = await lookUp(db, source, keys, { tenant, eligible: true });
    for (const key of keys) if (there.has(key) && !findable.has(key)) unfindable.add(key);
    for (const { query, relevant } of ofTenant) {
      const own = relevant.flatMap((key) => findable.get(key) ?? []);
      if (own.length > 0) asked.push({ query, tenant, relevant: new Set(own) });
    }
  }
  const unknownKeys = named.filter((key) => !there.has(key));
  return { queries: asked, unknownKeys, unfindableKeys: [...unfindable] };
}

function keysOf(queries: readonly LabelledQuery[]): string[] {
  return [...new Set(queries.flatMap(({ relevant }) => relevant))];
}

function isKey(source: Source, key: string): boolean {
  try {
    return parseKey(source.key, key).length === source.key.length;
  } catch {
    return false;
  }
}

interface Rows {
  readonly tenant?: string | undefined;
  /** Only rows that should have a vector. */
  readonly eligible?: boolean;
}

type Named = { named: string; key: string };

/** The source's own text of each key whose row is one of these; one that is no value of the key's type has none. */
async function lookUp(
  db: Database,
  source: Source,
  keys: readonly string[],
  rows: Rows,
): Promise<ReadonlyMap<string, string>> {
  const written = keys.filter((key) => isKey(source, key));
  const found = await readableOf(written, (some) => read(db, source, some, rows));
  return new Map(found.map(({ named, key }) => [named, key]));
}

function read(db: Database, source: Source, keys: readonly string[], { tenant, eligible }: Rows): Promise<Named[]> {
  const { relation, key, tenantColumn } = source;
  const ofTenant = tenantColumn !== undefined && tenant !== undefined;
  const conditions = [
    ...(eligible ? [eligibleSql(source)] : []),
    ...(ofTenant ? [`${column(source, tenantColumn)} = $${key.length + 2}`] : []),
  ];
  return db.tx((tx) =>
    tx.query<Named>(
      `SELECT __fv_i.__fv_key AS named, ${keySql(key, relation.table)} AS key
       FROM ${givenKeysSql(key)}
       JOIN ${fromSource(source)} ON ${keyJoinSql(key, relation.table, '__fv_i')}
       WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}`,
      [keys, ...keyArrays(key, keys), ...(ofTenant ? [tenant] : [])],
    ),
  );
}
