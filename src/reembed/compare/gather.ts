import { column } from '../../catalog/expressions.js';
import type { LabelledQuery } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import type { Database } from '../../db/database.js';
import { FreshvecError } from '../../db/errors.js';
import { literal } from '../../db/identifiers.js';
import { tenantsOf } from '../../search/tenants.js';
import { readTexts, sampleKeys } from '../../store/vectors.js';
import { type AskableQuery, askable } from '../eval/askable.js';
import { SEED } from '../gates/context.js';
import { deriveQueries, HOW_DERIVED, type KnownItem, type SampledText } from './derived-queries.js';

/** What is embedded with each model. */
export interface Gathered {
  readonly texts: readonly (SampledText & { readonly tenant: string | undefined })[];
  /** One with a tenant is answered by that tenant's rows only. */
  readonly queries: readonly (KnownItem & { readonly tenant?: string | undefined })[];
  /** How the queries came about. */
  readonly how: string;
  readonly unknownKeys: readonly string[];
  readonly unfindableKeys: readonly string[];
}

/** Derived queries are at most this many. */
const MOST_DERIVED = 200;

/**
 * The same rows and queries each time, so that what is estimated is what is sent. Throws FreshvecError
 * `compare_impossible` and `queries_invalid`.
 */
export async function gather(
  db: Database,
  source: Source,
  queries: readonly LabelledQuery[],
  sampleRows: number,
): Promise<Gathered> {
  return queries.length === 0 ? derived(db, source, sampleRows) : labelled(db, source, queries, sampleRows);
}

async function derived(db: Database, source: Source, sampleRows: number): Promise<Gathered> {
  const texts = await readTexts(db, source, await sampleKeys(db, source, sampleRows, SEED));
  const queries = deriveQueries(texts, MOST_DERIVED, SEED);
  if (queries.length === 0) {
    throw impossible(
      source.name,
      'no row has six words or more to derive a query from: give labelled queries (--queries FILE)',
    );
  }
  return {
    texts: texts.map((text) => ({ ...text, tenant: undefined })),
    queries,
    how: `${queries.length} derived queries: ${HOW_DERIVED}`,
    unknownKeys: [],
    unfindableKeys: [],
  };
}

async function labelled(
  db: Database,
  source: Source,
  given: readonly LabelledQuery[],
  sampleRows: number,
): Promise<Gathered> {
  const { queries: asked, unknownKeys, unfindableKeys } = await askable(db, source, given);
  const sampled = await sampleKeys(db, ofTheirTenants(source, asked), sampleRows, SEED);
  const named = asked.flatMap(({ relevant }) => [...relevant]);
  const read = await readTexts(db, source, [...new Set([...named, ...sampled])]);
  const tenants = await tenantsOf(
    db,
    source,
    read.map(({ key }) => key),
  );
  const texts = read.map((text) => ({ ...text, tenant: tenants.get(text.key) }));
  const there = new Set(read.map(({ key }) => key));
  const queries = asked.flatMap(({ query, tenant, relevant }) => {
    const keys = [...relevant].filter((key) => there.has(key));
    const [first] = keys;
    // As the column writes it: the file may say 07 of the tenant 7.
    return first === undefined
      ? []
      : [{ query, relevant: new Set(keys), tenant: tenant === undefined ? undefined : tenants.get(first) }];
  });
  if (queries.length === 0)
    throw impossible(source.name, 'none of the keys that the queries name has a text that a search finds');
  return {
    texts,
    queries,
    how: `${queries.length} labelled queries${amongText(texts, queries)}`,
    unknownKeys,
    unfindableKeys,
  };
}

/** Where each query is of a tenant, rows of other tenants would be paid for in vain. */
function ofTheirTenants(source: Source, queries: readonly AskableQuery[]): Source {
  const tenants = new Set(queries.map(({ tenant }) => tenant));
  if (source.tenantColumn === undefined || tenants.has(undefined) || tenants.size === 0) return source;
  const theirs = `${column(source, source.tenantColumn)} IN (${[...tenants].map((tenant) => literal(tenant ?? '')).join(', ')})`;
  return { ...source, filter: source.filter === undefined ? theirs : `(${source.filter}) AND ${theirs}` };
}

function amongText(texts: Gathered['texts'], queries: Gathered['queries']): string {
  const counts = queries.flatMap(({ tenant }) =>
    tenant === undefined ? [] : texts.filter((text) => text.tenant === tenant).length,
  );
  if (counts.length === 0) return '';
  const rows = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return `, ${counts.length} of them among the rows of one tenant: ${rows.toFixed(0)} on average`;
}

export function impossible(source: string, why: string): FreshvecError {
  return new FreshvecError('compare_impossible', `The models cannot be compared on "${source}": ${why}.`);
}
