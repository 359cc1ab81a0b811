import { fromSource } from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { adoptedSql } from './adoption.js';
import { SourceRefused } from './errors.js';
import { isSmall, readableRows, samplePages } from './estimate.js';
import { readTable } from './table.js';

/** Rows that are looked at before vectors are taken over. */
export const SAMPLED_ROWS = 20;
/**
 * A quantised model gives a text a cosine of 0.945 and more to its full-precision vector; other texts, and other models,
 * are far below.
 */
const ALIKE = 0.9;
/** So many of the sample must be alike. */
const ALIKE_SHARE = 0.9;

/** How vectors that are to be taken over compare with what the model gives for the same rows now. */
export interface AdoptionCheck {
  /** Rows compared. */
  readonly rows: number;
  readonly alike: number;
  /** Cosine, -1 to 1. */
  readonly median: number;
  readonly lowest: number;
}

/** Embeds texts, in their order; undefined for one that the model does not take. */
export type EmbedSample = (texts: readonly string[]) => Promise<readonly (Float32Array | undefined)[]>;

/**
 * Embeds the texts of up to 20 rows, picked at random, and compares with the vectors that they have. Throws SourceRefused
 * with the similarity that was measured where the model did not make them from this content. Undefined where the column
 * holds nothing to take over.
 */
export async function verifyAdoption(
  db: Database,
  { source, space }: { readonly source: Source; readonly space: Space },
  embed: EmbedSample,
): Promise<AdoptionCheck | undefined> {
  const sample = await readSample(db, source, space);
  if (sample.length === 0) return undefined;
  const made = await embed(sample.map(({ text }) => text));
  const cosines = sample
    .flatMap(({ vector }, i) => {
      const now = made[i];
      return now ? [cosine(vector, now)] : [];
    })
    .sort((a, b) => a - b);
  const check: AdoptionCheck = {
    rows: cosines.length,
    alike: cosines.filter((value) => value >= ALIKE).length,
    median: cosines[cosines.length >> 1] ?? 0,
    lowest: cosines[0] ?? 0,
  };
  if (check.rows > 0 && check.alike >= ALIKE_SHARE * check.rows) return check;
  throw new SourceRefused(`${source.relation.schema}.${source.relation.table}`, [refusal(space, sample.length, check)]);
}

function refusal({ column, spec }: Space, sampled: number, { rows, alike, median, lowest }: AdoptionCheck): string {
  const anyway = 'To take them over unseen: `--no-verify`.';
  if (rows === 0) {
    return `${spec} takes none of the texts of ${sampled} rows, so that nothing shows whether it made the vectors in "${column}". ${anyway}`;
  }
  const measured = `of ${rows} rows, ${alike} have a cosine of ${ALIKE} or more to what ${spec} gives for their text (median ${median.toFixed(3)}, lowest ${lowest.toFixed(3)})`;
  return median >= ALIKE
    ? `some vectors in "${column}" were not made from the text that their rows have now: ${measured}. Set those to NULL, which has them embedded. ${anyway}`
    : `the vectors in "${column}" were not made by this model from this content: ${measured}. Name the model and the content that they were made from. ${anyway}`;
}

async function readSample(
  db: Database,
  source: Source,
  space: Space,
): Promise<{ text: string; vector: Float32Array }[]> {
  const { schema, table } = source.relation;
  const adopted = adoptedSql(await readTable(db, qualified(schema, table)), space);
  const rows = await readableRows(db, source, async (tx, { eligible, text }) => {
    const from = (await isSmall(tx, source)) ? fromSource(source) : (await samplePages(tx, source)).from;
    return tx.query<{ text: string; vector: number[] }>(
      `SELECT ${text} AS text, ${ident(table)}.${ident(space.column)}::real[] AS vector
       FROM ${from} WHERE ${eligible} AND ${adopted} ORDER BY random() LIMIT ${SAMPLED_ROWS}`,
    );
  });
  return rows.map(({ text, vector }) => ({ text, vector: Float32Array.from(vector) }));
}

/** 0 where a vector has no length, or another number of dimensions. */
function cosine(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return 0;
  let [dot, aa, bb] = [0, 0, 0];
  for (const [i, x] of a.entries()) {
    const y = b[i] ?? 0;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}
