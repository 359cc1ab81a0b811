import { setImmediate as nextTurn } from 'node:timers/promises';
import { caughtSql, contentSql, eligibleSql, fromSource, keySql } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { classify } from '../db/errors.js';
import { takeTime } from '../db/timeouts.js';
import type { PlanModel } from './definition.js';

export interface Estimate {
  /** Rows that want a vector. */
  readonly rows: number;
  readonly estimated: boolean;
  /** Rows beside these on which content or filter fails. */
  readonly fails: number;
  /** That are sent for rows that are not adopted. */
  readonly tokens: number;
  /** Of the rows that are not adopted: those whose text is longer than the model takes. */
  readonly longRows: number;
  /** Of the rows: those whose vector is taken over, unpaid. */
  readonly adopts: number;
  /** Vectors of rows that should have none. */
  readonly removes: number;
  /** Sent for one text, on average. */
  readonly tokensPerText: number;
  /** What is sent for each text of the sample: nothing for one that is refused. */
  readonly sent: readonly (readonly string[])[];
}

/** Tables with more rows than this are sampled, not counted. */
const EXACT_ROWS = 100_000;
const SAMPLE_PAGES = 500;
const SAMPLE_TEXTS = 200;
/** Until that many rows pass the filter, ten times as many pages are looked at: up to so many, 400 MB, or 40 MB. */
const MOST_PAGES = { plain: 50_000, caught: 5_000 };

/** How to ask for a row's content and filter. */
export interface Reading {
  /** SQL: whether the row is eligible; NULL where content or filter fails on it. */
  readonly eligible: string;
  /** SQL: the text of an eligible row. */
  readonly text: string;
  readonly mostPages: number;
}

/** One row that they fail on fails the statement. */
function plainly(source: Source): Reading {
  const text = contentSql(source.content, source.relation.table);
  return { eligible: eligibleSql(source), text, mostPages: MOST_PAGES.plain };
}

/** Row by row, 30 µs each. */
function caught(source: Source): Reading {
  const { eligible, text } = plainly(source);
  return {
    eligible: `${caughtSql(source, eligible)}::boolean`,
    text: caughtSql(source, text),
    mostPages: MOST_PAGES.caught,
  };
}

/** Reads rows in a transaction, and once more, row by row, where content or filter fails on one of them. */
export async function readableRows<T>(
  db: Database,
  source: Source,
  read: (tx: Executor, reading: Reading) => Promise<T>,
): Promise<T> {
  try {
    return await db.tx((tx) => read(tx, plainly(source)));
  } catch (error) {
    if (classify(error) !== 'data') throw error;
    return db.tx((tx) => read(tx, caught(source)));
  }
}

type Counter = Pick<PlanModel, 'countTokens' | 'cut'>;

/**
 * Counts the rows and, from a sample, their tokens. Reads at most 100,000 rows or 500 pages; more where few rows pass the
 * filter. Throws what content or filter throws on a row.
 * @param adopted SQL: the row's vector is taken over
 */
export async function estimate(db: Database, source: Source, model: Counter, adopted?: string): Promise<Estimate> {
  return reckon(await db.tx((tx) => readSample(tx, source, plainly(source), adopted)), source, model);
}

/** The same of the rows on which neither fails, and how many they do on. */
export async function estimateReadable(
  db: Database,
  source: Source,
  model: Counter,
  adopted?: string,
): Promise<Estimate> {
  const sample = await readableRows(db, source, (tx, reading) => readSample(tx, source, reading, adopted));
  return reckon(sample, source, model);
}

type Sample = Pick<Counted, 'share' | 'seen'> & { readonly texts: readonly string[] };

async function readSample(tx: Executor, source: Source, reading: Reading, adopted = 'false'): Promise<Sample> {
  await takeTime(tx);
  const { from, share, seen } = await countRows(tx, source, reading, adopted);
  return { share, seen, texts: await sampleTexts(tx, source, reading, from, seen.rows) };
}

/** With no transaction open: to cut long texts takes seconds. */
async function reckon({ share, seen, texts }: Sample, source: Source, model: Counter): Promise<Estimate> {
  const sent: (readonly string[])[] = [];
  let [tokens, long] = [0, 0];
  for (const text of texts) {
    const cut = model.cut?.(text, source.longTexts);
    if (cut !== undefined) long += 1;
    sent.push(cut ?? [text]);
    for (const piece of cut ?? [text]) tokens += model.countTokens(piece);
    await nextTurn();
  }
  const perText = tokens / Math.max(texts.length, 1);
  const all = (rows: number) => Math.round(rows / share);
  const rows = all(seen.rows);
  const adopts = all(seen.adopts);
  return {
    rows,
    estimated: share < 1,
    fails: all(seen.fails),
    tokens: Math.round(perText * (rows - adopts)),
    longRows: Math.ceil((long / Math.max(texts.length, 1)) * (rows - adopts)),
    adopts,
    removes: all(seen.removes),
    tokensPerText: perText,
    sent,
  };
}

interface Counted {
  /** What was looked at, and its share of the source. */
  readonly from: string;
  readonly share: number;
  readonly seen: { readonly rows: number; readonly fails: number; readonly adopts: number; readonly removes: number };
}

async function countRows(
  tx: Executor,
  source: Source,
  { eligible, mostPages }: Reading,
  adopted: string,
): Promise<Counted> {
  const small = await isSmall(tx, source);
  for (let pages = SAMPLE_PAGES; ; pages *= 10) {
    const { from, share } = small ? { from: fromSource(source), share: 1 } : await samplePages(tx, source, pages);
    const [seen] = await tx.query<Counted['seen'] & Record<string, unknown>>(
      `SELECT count(*) FILTER (WHERE __fv_eligible) AS rows, count(*) FILTER (WHERE __fv_eligible IS NULL) AS fails,
         count(*) FILTER (WHERE __fv_eligible AND __fv_adopted) AS adopts,
         count(*) FILTER (WHERE NOT __fv_eligible AND __fv_adopted) AS removes
       FROM (SELECT ${eligible} AS __fv_eligible, ${adopted} AS __fv_adopted FROM ${from} OFFSET 0) __fv_rows`,
    );
    if (!seen) throw new TypeError('count gave no row');
    if (seen.rows >= SAMPLE_TEXTS || share === 1 || pages >= mostPages) return { from, share, seen };
  }
}

/**
 * Texts of eligible rows in the order of their keys' hashes: from all over the table, and the same ones each time. Only
 * rows with a low hash are looked at, four times as many as it takes.
 */
async function sampleTexts(
  tx: Executor,
  source: Source,
  { eligible, text }: Reading,
  from: string,
  seen: number,
): Promise<string[]> {
  const hash = `hashtextextended(${keySql(source.key, source.relation.table)}, 1)`;
  const part = Math.min(1, (4 * SAMPLE_TEXTS) / Math.max(seen, 1));
  const most = (BigInt(Math.floor(part * 2 ** 32)) << 32n) - 2n ** 63n - 1n;
  const rows = await tx.query<{ text: string }>(
    `SELECT ${text} AS text FROM ${from} WHERE CASE WHEN ${hash} <= $1::int8 THEN ${eligible} END
     ORDER BY ${hash} LIMIT ${SAMPLE_TEXTS}`,
    [String(most)],
  );
  return rows.map((row) => row.text);
}

export async function isSmall(tx: Executor, source: Source): Promise<boolean> {
  const [row] = await tx.query<{ seen: number }>(
    `SELECT count(*) AS seen FROM (SELECT FROM ${fromSource(source)} LIMIT ${EXACT_ROWS + 1}) AS __fv_rows`,
  );
  return (row?.seen ?? 0) <= EXACT_ROWS;
}

/** About so many pages of the source and all its partitions, the same ones each time, and what share of the whole they are. */
export async function samplePages(
  tx: Executor,
  source: Source,
  pages = SAMPLE_PAGES,
): Promise<{ from: string; share: number }> {
  const [row] = await tx.query<{ pages: number }>(
    `SELECT sum(pg_relation_size(t.relid) / current_setting('block_size')::int)::int8 AS pages
     FROM (SELECT $1::oid AS relid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) t`,
    [source.relation.oid],
  );
  const percent = Math.min(100, (100 * pages) / Math.max(row?.pages ?? 0, 1));
  return { from: `${fromSource(source)} TABLESAMPLE SYSTEM (${percent}) REPEATABLE (1)`, share: percent / 100 };
}
