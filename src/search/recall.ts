import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import { ident, literal, qualified } from '../db/identifiers.js';
import { indexedRelation } from '../store/index-state.js';
import { distanceSql } from './operator.js';
import { DEFAULT_EF_SEARCH, DEFAULT_K, MAX_EF_SEARCH, MAX_K } from './request.js';
import { SCAN_SETTINGS } from './scan.js';

export interface RecallOptions {
  /** Stored vectors that are asked for, picked at random; 50 unless told. */
  readonly sample?: number | undefined;
  /** Neighbours that are compared, 1 to 1000; 10 unless told. */
  readonly k?: number | undefined;
  /** hnsw.ef_search of the approximate side, 1 to 1000; 80, as searches have it, unless told. */
  readonly efSearch?: number | undefined;
  /** The index that must answer (of a partitioned source, that of the whole). Any HNSW index unless told. */
  readonly indexName?: string | undefined;
  /** One partition in place of all of them. */
  readonly relation?: { readonly schema: string; readonly name: string } | undefined;
  /** No further question is asked, and none goes on, once so many ms went by: each exact answer reads every vector. 60 s unless told. */
  readonly budgetMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Recall {
  /** Mean share of the k nearest that the index finds, 0 to 1; 1 where there was nothing to ask. */
  readonly recall: number;
  /** How many questions it is the mean of. */
  readonly queries: number;
  readonly efSearch: number;
}

const DEFAULTS = { sample: 50, budgetMs: 60_000 } as const;
/** Distances of one pair of vectors may differ in the last bits between two plans. */
const SAME = 1e-6;

type Near = { at: string; distance: number };

/**
 * How much of what an exact search finds the vector index finds: stored vectors are the questions, each without itself
 * among the answers, and a hit counts by its distance, so that equal vectors do not look like misses. Each question is
 * one short snapshot, in which both are answered as `search` would be.
 *
 * Throws FreshvecError `index_unused` where the planner does not answer by the index even when it has no better
 * choice: it is missing, invalid, or of another operator class. `recall_too_slow` where not one question was answered
 * within the budget.
 */
export async function measureRecall(
  db: Database,
  source: Source,
  space: Space,
  options: RecallOptions = {},
): Promise<Recall> {
  const { sample = DEFAULTS.sample, k = DEFAULT_K, budgetMs = DEFAULTS.budgetMs, signal } = options;
  const efSearch = Math.max(options.efSearch ?? DEFAULT_EF_SEARCH, k + 1);
  if (!(k >= 1 && k <= MAX_K && sample >= 1 && efSearch <= MAX_EF_SEARCH)) {
    throw new FreshvecError(
      'recall_request_invalid',
      `sample must be from 1, k from 1 to ${MAX_K}, efSearch above k and at most ${MAX_EF_SEARCH}.`,
    );
  }
  const side = await sideOf(db, source, space, options);
  const deadline = performance.now() + budgetMs;
  let [sum, queries] = [0, 0];
  for (const at of await pick(db, side, sample)) {
    if (queries > 0 && performance.now() > deadline) break;
    signal?.throwIfAborted();
    const leftMs = queries === 0 ? budgetMs : deadline - performance.now();
    const share = await askBoth(db, side, at, { k, efSearch, leftMs }).catch((error: unknown) => {
      if (sqlState(error) !== '57014' || signal?.aborted) throw error;
      return 'too slow' as const;
    });
    if (share === 'too slow') {
      if (queries > 0) break;
      throw new FreshvecError(
        'recall_too_slow',
        `One exact search over the vectors of "${source.name}" takes longer than ${budgetMs} ms: give it more time.`,
      );
    }
    if (share === undefined) continue;
    sum += share;
    queries += 1;
  }
  return { recall: queries === 0 ? 1 : sum / queries, queries, efSearch };
}

/** What is asked, and of which relation. */
interface Side {
  readonly from: string;
  readonly where: string;
  readonly vector: string;
  /** Distance of a row to `$1`. */
  readonly distance: string;
  readonly indexName: string | undefined;
}

async function sideOf(db: Database, source: Source, space: Space, options: RecallOptions): Promise<Side> {
  const { schema, table, column } = indexedRelation(source, space);
  const extension = await db.vectorExtension();
  const vector = ident(column);
  const model = space.store === 'column' ? ident(`${column}_model`) : 'model';
  return {
    from: options.relation ? qualified(options.relation.schema, options.relation.name) : qualified(schema, table),
    where: `${vector} IS NOT NULL AND ${model} = ${literal(space.fingerprint)}`,
    vector,
    distance: distanceSql(space, extension?.schema ?? 'public', vector),
    indexName: options.indexName,
  };
}

/** Places of rows that have a vector, from pages at random; the whole table where those are too few. */
async function pick(db: Database, { from, where }: Side, sample: number): Promise<string[]> {
  const [size] = await db.query<{ rows: number }>(
    `SELECT sum(greatest(reltuples, 0))::float8 AS rows FROM pg_class
     WHERE relkind = 'r' AND (oid = to_regclass($1) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))))`,
    [from],
  );
  const percent = Math.min(100, (100 * 20 * sample) / Math.max(1, size?.rows ?? 1));
  const sampled = (share: number) =>
    db.query<{ at: string }>(
      `SELECT tableoid::int8 || '/' || ctid AS at FROM ${from} TABLESAMPLE SYSTEM (${share}) WHERE ${where}
       ORDER BY random() LIMIT $1`,
      [sample],
    );
  let rows = await sampled(percent);
  if (rows.length < sample && percent < 100) rows = await sampled(100);
  return rows.map(({ at }) => at);
}

/** The share of the exact answer that the index found; undefined where the row is gone, or has no neighbours. */
function askBoth(
  db: Database,
  side: Side,
  at: string,
  { k, efSearch, leftMs }: { k: number; efSearch: number; leftMs: number },
): Promise<number | undefined> {
  const nearest = `SELECT tableoid::int8 || '/' || ctid AS at, ${side.distance} AS distance
    FROM ${side.from} WHERE ${side.where} ORDER BY ${side.distance} LIMIT ${k + 1}`;
  const answers = async (tx: Executor, vector: string) =>
    (await tx.query<Near>(nearest, [vector])).filter((row) => row.at !== at && !Number.isNaN(row.distance)).slice(0, k);
  return db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    await tx.query(`SET LOCAL statement_timeout = ${Math.max(1, Math.ceil(leftMs))}`);
    await tx.query('SET LOCAL jit = off');
    const vector = await vectorAt(tx, side, at);
    if (vector === undefined) return undefined;
    await tx.query(
      `SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true)`,
    );
    const exact = await answers(tx, vector);
    const farthest = exact.at(-1)?.distance;
    if (farthest === undefined) return undefined;
    await tx.query(
      `SELECT set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true),
         set_config('enable_sort', 'off', true), ${SCAN_SETTINGS}`,
      [String(efSearch)],
    );
    await assertIndexed(tx, side, nearest, vector);
    const found = await answers(tx, vector);
    const bound = farthest + SAME * Math.max(1, Math.abs(farthest));
    return Math.min(1, found.filter(({ distance }) => distance <= bound).length / exact.length);
  });
}

async function vectorAt(tx: Executor, { from, where, vector }: Side, at: string): Promise<string | undefined> {
  const [oid, ctid] = at.split('/');
  const [row] = await tx.query<{ vector: string }>(
    `SELECT ${vector}::text AS vector FROM ${from} WHERE tableoid = $1::int8::oid AND ctid = $2::text::tid AND ${where}`,
    [oid, ctid],
  );
  return row?.vector;
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Index Name'?: string;
  readonly 'Relation Name'?: string;
  readonly Plans?: readonly PlanNode[];
}

/** EXPLAIN decides: an index that cannot answer is no error, but a silent sequential scan. */
async function assertIndexed(tx: Executor, { from, indexName }: Side, statement: string, vector: string) {
  const [row] = await tx.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(`EXPLAIN (FORMAT JSON) ${statement}`, [vector]);
  const scans = row ? scansOf(row['QUERY PLAN'][0].Plan) : [];
  const used = scans.flatMap((node) => node['Index Name'] ?? []);
  const meant = await tx.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_am am ON am.oid = c.relam
     WHERE am.amname = 'hnsw' AND c.relname = ANY($1::text[]) AND ($2::text IS NULL OR c.relname = $2 OR EXISTS (
       SELECT FROM pg_partition_ancestors(c.oid) a JOIN pg_class above ON above.oid = a.relid WHERE above.relname = $2))`,
    [used, indexName ?? null],
  );
  const names = new Set(meant.map(({ name }) => name));
  if (scans.every((node) => names.has(node['Index Name'] ?? ''))) return;
  const how = scans.map((node) => `${node['Node Type']} on ${node['Index Name'] ?? node['Relation Name'] ?? '?'}`);
  throw new FreshvecError(
    'index_unused',
    `The vectors of ${from} are not searched by ${indexName === undefined ? 'an HNSW index' : `the index ${indexName}`}, ` +
      `but by ${[...new Set(how)].join(', ')}: it is missing, invalid, or of another operator class than the search.`,
  );
}

function scansOf(node: PlanNode): PlanNode[] {
  if (node.Plans && node.Plans.length > 0) return node.Plans.flatMap(scansOf);
  return node['Node Type'] === 'Result' ? [] : [node];
}

/** A reason not to know the recall that is nobody's fault: no index answers, or the table is too large for the time. */
export function isUnmeasurable(error: unknown): boolean {
  return error instanceof FreshvecError && (error.code === 'index_unused' || error.code === 'recall_too_slow');
}
