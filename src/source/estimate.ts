import { contentSql, eligibleSql, fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import type { PlanModel } from './definition.js';

export interface Estimate {
  /** Rows that want a vector. */
  readonly rows: number;
  readonly estimated: boolean;
  /** Of the rows that are not adopted. */
  readonly tokens: number;
  /** Of the rows that are not adopted: those whose text is longer than the model takes. */
  readonly longRows: number;
  /** Of the rows: those whose vector is taken over, unpaid. */
  readonly adopts: number;
  /** Vectors of rows that should have none. */
  readonly removes: number;
  /** Of one text, on average. */
  readonly tokensPerText: number;
}

/** Tables with more rows than this are sampled, not counted. */
const EXACT_ROWS = 100_000;
const SAMPLE_PAGES = 500;
const SAMPLE_TEXTS = 200;

/**
 * Counts the rows and, from a sample, their tokens. Reads at most 100,000 rows or 500 pages.
 * @param adopted SQL: the row's vector is taken over
 */
export async function estimate(
  db: Database,
  source: Source,
  model: Pick<PlanModel, 'countTokens' | 'isTooLong'>,
  adopted = 'false',
): Promise<Estimate> {
  return db.tx(async (tx) => {
    const small = await isSmall(tx, source);
    const { from, share } = small ? { from: fromSource(source), share: 1 } : await samplePages(tx, source);
    const eligible = eligibleSql(source);
    const [count] = await tx.query<{ rows: number; adopts: number; removes: number }>(
      `SELECT count(*) FILTER (WHERE ${eligible}) AS rows, count(*) FILTER (WHERE ${eligible} AND ${adopted}) AS adopts,
         count(*) FILTER (WHERE NOT ${eligible} AND ${adopted}) AS removes
       FROM ${from}`,
    );
    const seen = count?.rows ?? 0;
    const texts = await tx.query<{ text: string }>(
      `SELECT ${contentSql(source.content, source.relation.table)} AS text FROM ${from}
       WHERE ${eligible} AND random() < ${(2 * SAMPLE_TEXTS) / Math.max(seen, 1)} LIMIT ${SAMPLE_TEXTS}`,
    );
    const perText = texts.reduce((sum, { text }) => sum + model.countTokens(text), 0) / Math.max(texts.length, 1);
    const rows = Math.round(seen / share);
    const adopts = Math.round((count?.adopts ?? 0) / share);
    const long = texts.filter(({ text }) => model.isTooLong?.(text)).length / Math.max(texts.length, 1);
    return {
      rows,
      estimated: !small,
      tokens: Math.round(perText * (rows - adopts)),
      longRows: Math.ceil(long * (rows - adopts)),
      adopts,
      removes: Math.round((count?.removes ?? 0) / share),
      tokensPerText: perText,
    };
  });
}

export async function isSmall(tx: Executor, source: Source): Promise<boolean> {
  const [row] = await tx.query<{ seen: number }>(
    `SELECT count(*) AS seen FROM (SELECT FROM ${fromSource(source)} LIMIT ${EXACT_ROWS + 1}) AS __fv_rows`,
  );
  return (row?.seen ?? 0) <= EXACT_ROWS;
}

/** About 500 pages of the source and all its partitions, the same ones each time, and what share of the whole they are. */
export async function samplePages(tx: Executor, source: Source): Promise<{ from: string; share: number }> {
  const [row] = await tx.query<{ pages: number }>(
    `SELECT sum(pg_relation_size(t.relid) / current_setting('block_size')::int)::int8 AS pages
     FROM (SELECT $1::oid AS relid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) t`,
    [source.relation.oid],
  );
  const percent = Math.min(100, (100 * SAMPLE_PAGES) / Math.max(row?.pages ?? 0, 1));
  return { from: `${fromSource(source)} TABLESAMPLE SYSTEM (${percent}) REPEATABLE (1)`, share: percent / 100 };
}
