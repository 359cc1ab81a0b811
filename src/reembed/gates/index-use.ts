import { column, fromSource } from '../../catalog/expressions.js';
import { ident } from '../../db/identifiers.js';
import { type PlannedScan, searchSpace, type Way } from '../../search/space-search.js';
import { tenantsOf } from '../../search/tenants.js';
import { operatorClassOf, type VectorRelation, vectorRelations } from '../../store/vector-indexes.js';
import { sampleKeys } from '../../store/vectors.js';
import { type Gate, type GateContext, K, SEED } from './context.js';

/** What searches of the new space go by. */
export interface IndexUse {
  /** Whether its vector index can answer, so that its recall means something. */
  readonly answers: boolean;
  readonly gate: Gate;
}

type IndexContext = Pick<GateContext, 'db' | 'source' | 'to' | 'settings'>;

const NAME = 'index';
const BOUND = 'index scan';

/** Tenants whose plans are looked at: of rows from all over the table, so the large ones rather than the small. */
const MOST_TENANTS = 5;

/**
 * The vector index of the new space (of each leaf) is valid and fits its metric, and the planner takes it for the very
 * statement that `search` runs, for one tenant where the source has tenants. A table that is small may be read as a
 * whole, and so may a tenant: that is exact, and fast.
 */
export async function indexUse(context: IndexContext): Promise<IndexUse> {
  const { db, source, to, settings } = context;
  if (to.index.kind === 'none') {
    const note = 'no vector index is wanted: searches compare every vector';
    return { answers: false, gate: { name: NAME, passed: true, value: 'none', bound: 'none', note } };
  }
  const relations = await vectorRelations(db, source, to);
  const unfit = relations.flatMap((relation) => unfitReason(relation, operatorClassOf(to)) ?? []);
  if (relations.length === 0) unfit.push('the table of the vectors is gone');
  if (unfit.length > 0) {
    const gate = { name: NAME, passed: false, value: 'unfit', bound: BOUND, note: unfit.join('; ') };
    return { answers: false, gate };
  }
  const plans = await plansOf(context);
  const unable = relations.filter((relation) => plans.some(({ index }) => !answeredByIndex(relation, index, to)));
  if (unable.length > 0) {
    const note = `the index of ${list(unable)} fits, but the search statement cannot use it; \`EXPLAIN\` it as the app's role`;
    return { answers: false, gate: { name: NAME, passed: false, value: 'sequential scan', bound: BOUND, note } };
  }
  const read = relations.filter((relation) => plans.some(({ planner }) => !answeredByIndex(relation, planner, to)));
  const large: VectorRelation[] = [];
  for (const relation of read) if (!(await areSmall(context, relation, plans))) large.push(relation);
  const { tenantColumn } = source;
  if (large.length > 0 && !plans.some(({ planner }) => large.some((relation) => isReadWhole(relation, planner)))) {
    const note = `the planner reads a tenant's rows in ${list(large)} by another index, more than ${settings.smallRows}: exact, and slower the more there are`;
    return { answers: true, gate: { name: NAME, passed: false, advisory: true, value: 'tenant', bound: BOUND, note } };
  }
  if (large.length > 0) {
    const tenants = tenantColumn === undefined ? '' : `, or index the column ${ident(tenantColumn)}`;
    const note = `the planner reads all of ${list(large)} although its index fits: \`ANALYZE ${large[0]?.name}\`, then look at random_page_cost${tenants}`;
    return { answers: true, gate: { name: NAME, passed: false, value: 'sequential scan', bound: BOUND, note } };
  }
  const value = read.length === 0 ? BOUND : read.length === relations.length ? 'sequential scan' : 'both';
  const what = tenantColumn === undefined ? 'as a whole' : 'as a whole, or all of a tenant';
  const note =
    read.length === 0
      ? 'valid, of the right operator class, and used'
      : `valid and of the right operator class; the planner reads ${list(read)} ${what}, which is quicker at no more than ${settings.smallRows} rows`;
  return { answers: true, gate: { name: NAME, passed: true, value, bound: BOUND, note } };
}

function unfitReason({ name, indexes }: VectorRelation, needed: string): string | undefined {
  if (indexes.some((index) => index.valid && index.operatorClass === needed)) return undefined;
  const [other] = indexes;
  if (!other) return `${name} has no vector index: resume the migration, which builds it`;
  const invalid = indexes.find((index) => index.operatorClass === needed);
  if (invalid)
    return `the index ${invalid.name} is invalid or partial: \`DROP INDEX CONCURRENTLY ${invalid.name}\`, then resume`;
  return `the index ${other.name} is of the operator class ${other.operatorClass}, but searches need ${needed}: drop it, then resume`;
}

/** How one search would be done. */
type Plans = { readonly tenant: string | undefined } & Readonly<Record<Exclude<Way, 'exact'>, PlannedScan[]>>;

async function plansOf(context: IndexContext): Promise<Plans[]> {
  const { db, source, to, settings } = context;
  const tenants = await someTenants(context);
  const query = new Float32Array(to.dimensions).fill(1);
  return searchSpace(db, source, to, async ({ explain }) => {
    const plans: Plans[] = [];
    for (const tenant of tenants) {
      const by = (way: Way) => explain({ query, k: K, efSearch: settings.efSearch, way, tenant });
      plans.push({ tenant, planner: await by('planner'), index: await by('index') });
    }
    return plans;
  });
}

/** One that is undefined where there are none: all rows are searched. */
async function someTenants({ db, source, settings }: IndexContext): Promise<(string | undefined)[]> {
  if (source.tenantColumn === undefined) return [undefined];
  const keys = await sampleKeys(db, source, settings.recallQueries, SEED);
  const tenants = new Set((await tenantsOf(db, source, keys)).values());
  return tenants.size === 0 ? [undefined] : [...tenants].slice(0, MOST_TENANTS);
}

function answeredByIndex(relation: VectorRelation, scans: readonly PlannedScan[], to: GateContext['to']): boolean {
  const fit = new Set(
    relation.indexes.flatMap((index) =>
      index.valid && index.operatorClass === operatorClassOf(to) ? index.bareName : [],
    ),
  );
  // A partition that the source's filter rules out is not in the plan at all.
  const own = scansOf(relation, scans);
  return own.length === 0 ? scans.length > 0 : own.some(({ index }) => index !== undefined && fit.has(index));
}

function scansOf({ name }: VectorRelation, scans: readonly PlannedScan[]): PlannedScan[] {
  return scans.filter(({ relation }) => relation === name);
}

function isReadWhole(relation: VectorRelation, scans: readonly PlannedScan[]): boolean {
  return scansOf(relation, scans).some(({ node }) => node === 'Seq Scan');
}

/** Each plan that goes without the vector index reads few rows of the relation. */
async function areSmall(context: IndexContext, relation: VectorRelation, plans: readonly Plans[]): Promise<boolean> {
  for (const { tenant, planner } of plans) {
    if (answeredByIndex(relation, planner, context.to)) continue;
    if (!(await isSmall(context, relation, isReadWhole(relation, planner) ? 'all' : { tenant }))) return false;
  }
  return true;
}

/** All of its rows, or those that the source's filter and the tenant leave: an index of these finds no others. */
async function isSmall(
  { db, source, to, settings }: IndexContext,
  { name }: VectorRelation,
  read: 'all' | Pick<Plans, 'tenant'>,
): Promise<boolean> {
  const rows = to.store === 'table' ? fromSource(source) : `${name} AS ${ident(source.relation.table)}`;
  const { filter, tenantColumn } = source;
  const tenant = read === 'all' ? undefined : read.tenant;
  const conditions = [
    ...(read === 'all' || filter === undefined ? [] : [`(${filter})`]),
    ...(tenant === undefined || tenantColumn === undefined ? [] : [`${column(source, tenantColumn)} = $2`]),
  ];
  const where = conditions.length === 0 ? 'true' : conditions.join(' AND ');
  const [row] = await db.query<{ rows: number }>(
    `SELECT count(*) AS rows FROM (SELECT FROM ${read === 'all' ? name : rows} WHERE ${where} LIMIT $1::int8 + 1) AS __fv_rows`,
    [settings.smallRows, ...(tenant === undefined ? [] : [tenant])],
  );
  return (row?.rows ?? 0) <= settings.smallRows;
}

function list(relations: readonly VectorRelation[]): string {
  return relations.map(({ name }) => name).join(', ');
}
