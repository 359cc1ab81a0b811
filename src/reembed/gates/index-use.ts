import type { Source } from '../../catalog/source.js';
import type { Executor } from '../../db/database.js';
import { ident } from '../../db/identifiers.js';
import { type PlannedScan, searchSpace, type Way } from '../../search/space-search.js';
import { operatorClassOf, type VectorRelation, vectorRelations } from '../../store/vector-indexes.js';
import { type Gate, type GateContext, K } from './context.js';

/** What searches of the new space go by. */
export interface IndexUse {
  /** Whether its vector index can answer, so that its recall means something. */
  readonly answers: boolean;
  readonly gate: Gate;
}

type IndexContext = Pick<GateContext, 'db' | 'source' | 'to' | 'settings'>;

const NAME = 'index';
const BOUND = 'index scan';

/**
 * The vector index of the new space (of each leaf) is valid and fits its metric, and the planner takes it for the very
 * statement that `search` runs. A table that is small may be read as a whole: that is exact, and fast.
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
  const whole = async (way: Way) => relations.filter((relation) => !answeredByIndex(relation, scans[way], to));
  const scans = await plans(context);
  const unable = await whole('index');
  if (unable.length > 0) {
    const note = `the index of ${list(unable)} fits, but the search statement cannot use it; \`EXPLAIN\` it as the app's role`;
    return { answers: false, gate: { name: NAME, passed: false, value: 'sequential scan', bound: BOUND, note } };
  }
  const read = await whole('planner');
  const large: VectorRelation[] = [];
  for (const relation of read) {
    // By an index of the filter's only its rows are read.
    const all = to.store === 'table' || scansOf(relation, scans.planner).some(({ node }) => node === 'Seq Scan');
    if (!(await isSmall(db, relation, all ? undefined : source, settings.smallRows))) large.push(relation);
  }
  if (large.length > 0) {
    const note = `the planner reads all of ${list(large)} although its index fits: \`ANALYZE ${large[0]?.name}\`, then look at random_page_cost`;
    return { answers: true, gate: { name: NAME, passed: false, value: 'sequential scan', bound: BOUND, note } };
  }
  const value = read.length === 0 ? BOUND : read.length === relations.length ? 'sequential scan' : 'both';
  const note =
    read.length === 0
      ? 'valid, of the right operator class, and used'
      : `valid and of the right operator class; the planner reads ${list(read)} as a whole, which is quicker at no more than ${settings.smallRows} rows`;
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

async function plans({ db, source, to, settings }: IndexContext): Promise<Readonly<Record<Way, PlannedScan[]>>> {
  const query = new Float32Array(to.dimensions).fill(1);
  return searchSpace(db, source, to, async ({ explain }) => {
    const by = (way: Way) => explain({ query, k: K, efSearch: settings.efSearch, way });
    return { planner: await by('planner'), index: await by('index'), exact: [] };
  });
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

/** `filtered`: only the rows that this source's filter lets through count. */
async function isSmall(
  db: Executor,
  { name }: VectorRelation,
  filtered: Source | undefined,
  most: number,
): Promise<boolean> {
  const from = filtered === undefined ? name : `${name} AS ${ident(filtered.relation.table)}`;
  const [row] = await db.query<{ rows: number }>(
    `SELECT count(*) AS rows FROM (SELECT FROM ${from} WHERE ${filtered?.filter ?? 'true'} LIMIT $1::int8 + 1) AS __fv_rows`,
    [most],
  );
  return (row?.rows ?? 0) <= most;
}

function list(relations: readonly VectorRelation[]): string {
  return relations.map(({ name }) => name).join(', ');
}
