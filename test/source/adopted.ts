import { type MockInstance, vi } from 'vitest';
import type { Executor } from '../../src/db/database.js';
import type { EmbeddingModel } from '../../src/embed/port.js';

/** How much longer vectors are that were there before: what freshvec embeds has length 1. */
const THEIRS = 2;

/** Fills a column with what the model gives for `body`, twice as long, so that it is told from what is embedded later. */
export async function fillByHand(
  db: Executor,
  model: EmbeddingModel,
  column: string,
  where = 'true',
  table = 'doc',
): Promise<void> {
  const rows = await db.query<{ id: number; body: string }>(`SELECT id, body FROM ${table} WHERE ${where}`);
  const { vectors } = await model.embed(
    rows.map(({ body }) => body),
    { purpose: 'document' },
  );
  const texts = vectors.map((vector) => `[${Array.from(vector, (x) => x * THEIRS).join(',')}]`);
  await db.query(
    `UPDATE ${table} SET ${column} = v.vector::vector FROM unnest($1::int[], $2::text[]) AS v(id, vector) WHERE ${table}.id = v.id`,
    [rows.map(({ id }) => id), texts],
  );
}

export interface AdoptedRow {
  readonly id: number;
  readonly body: string;
  readonly model: string | null;
  /** Whether the hash is that of the present text. */
  readonly hashed: boolean;
  readonly vector: number[] | null;
}

export async function readRows(db: Executor, column: string, table = 'doc'): Promise<AdoptedRow[]> {
  return db.query<AdoptedRow & Record<string, unknown>>(
    `SELECT id, body, ${column}_model AS model, COALESCE(${column}_hash = freshvec.content_hash(body), false) AS hashed,
       ${column}::real[] AS vector FROM ${table} ORDER BY id`,
  );
}

/** Whose a row's vector is: the one that was there, `embedded` since, or one of another text. */
export async function whose(row: AdoptedRow, model: EmbeddingModel): Promise<'theirs' | 'embedded' | 'wrong' | 'none'> {
  if (row.vector === null) return 'none';
  const { vectors } = await model.embed([row.body], { purpose: 'document' });
  const made = vectors[0] ?? new Float32Array();
  const is = (factor: number) => row.vector?.every((x, i) => Math.abs(x - factor * (made[i] ?? 0)) < 1e-3);
  return is(THEIRS) ? 'theirs' : is(1) ? 'embedded' : 'wrong';
}

/** The texts that a model is asked for from here on, the probe's left out. */
export function textsAsked(model: EmbeddingModel): { texts(): string[]; spy: MockInstance } {
  const spy = vi.spyOn(model, 'embed');
  return { spy, texts: () => spy.mock.calls.flatMap(([texts]) => texts).filter((text) => text.startsWith('text')) };
}

/** Tokens that were paid for. */
export async function spent(db: Executor): Promise<number> {
  const [row] = await db.query<{ tokens: number }>(
    'SELECT COALESCE(sum(tokens), 0)::int8 AS tokens FROM freshvec.spend',
  );
  return row?.tokens ?? 0;
}
