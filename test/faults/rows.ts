import { isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import type { Source } from '../../src/catalog/source.js';
import type { Space, StoreKind } from '../../src/catalog/space.js';
import type { Executor } from '../../src/db/database.js';
import { ident, qualified } from '../../src/db/identifiers.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import type { DrainReport } from '../../src/stages/context.js';
import type { Models } from '../../src/worker/models.js';
import { drainOnce } from '../../src/worker/once.js';
import type { Fixture } from '../support/fixture.js';
import { isProbe } from './support/provider.js';

export const MODEL = 'fake/m@8';
export const STORES: readonly StoreKind[] = ['column', 'table'];

/** A source and its space, as `openFixture().add` gives them. */
export interface Held {
  readonly source: Source;
  readonly space: Space;
}

/** What the test knows of the source without asking freshvec. */
export interface Expected {
  /** SQL over the row: the text that is to be embedded. */
  readonly text: string;
  /** SQL over the row: the filter. */
  readonly where?: string;
}

type Wanted = { key: string[]; text: string; hash: string };
type Stored = { key: string[]; vector: number[] | null; hash: string | null; model: string | null; stale: boolean };

/**
 * The oracle of invariant C, from the tables themselves: every row that should have a vector has one, made from its
 * text by its model, and nothing else has; nothing is left to do.
 */
export async function expectFresh(
  { db, models }: Pick<Fixture, 'db' | 'models'>,
  { source, space }: Held,
  expected: Expected,
): Promise<void> {
  await expectNothingLeft(db, space);
  const { wanted, stored } = await db.tx(async (tx) => ({
    wanted: await readWanted(tx, source, expected),
    stored: await readStored(tx, source, space),
  }));
  const model = await models.get(space.spec);
  const vectors = await embedAll(
    model,
    wanted.map(({ text }) => text),
  );
  const should = wanted.map(({ key, hash }, i) => ({
    key,
    vector: vectors[i] ?? null,
    hash,
    model: model.fingerprint,
    stale: false,
  }));
  // Row by row, so that a failure names the rows.
  const rowsOf = (rows: readonly Stored[]) => new Map(rows.map((row) => [row.key.join(), row]));
  const [has, wants] = [rowsOf(stored), rowsOf(should)];
  const wrong = [...new Set([...has.keys(), ...wants.keys()])].filter(
    (key) => !isDeepStrictEqual(has.get(key), wants.get(key)),
  );
  expect(wrong.map((key) => has.get(key))).toEqual(wrong.map((key) => wants.get(key)));
}

/** No change, no lease, no page to visit, no failure. */
export async function expectNothingLeft(db: Executor, space: Space): Promise<void> {
  const [left] = await db.query(
    `SELECT (SELECT count(*) FROM freshvec.change_key WHERE space_id = $1) AS changes,
       (SELECT count(*) FROM freshvec.lease WHERE space_id = $1) AS leases,
       (SELECT count(*) FROM freshvec.range WHERE space_id = $1) AS ranges,
       (SELECT count(*) FROM freshvec.failure WHERE space_id = $1) AS failures`,
    [space.id],
  );
  expect(left).toEqual({ changes: 0, leases: 0, ranges: 0, failures: 0 });
}

/** Stale is allowed, wrong is not: a vector whose hash is that of the row's text is that text's vector. */
export async function expectHonest(
  { db, models }: Pick<Fixture, 'db' | 'models'>,
  { source, space }: Held,
  expected: Expected,
) {
  const { wanted, stored } = await db.tx(async (tx) => ({
    wanted: await readWanted(tx, source, expected),
    stored: await readStored(tx, source, space),
  }));
  const model = await models.get(space.spec);
  for (const { key, text, hash } of wanted) {
    const found = stored.find((row) => row.hash === hash && row.key.join() === key.join());
    if (found) expect(found.vector).toEqual((await embedAll(model, [text]))[0]);
  }
}

function readWanted(tx: Executor, { relation, key }: Source, { text, where = 'true' }: Expected): Promise<Wanted[]> {
  return tx.query<Wanted>(
    `SELECT * FROM (SELECT ${keyArray(key)} AS key, (${text})::text AS text, md5((${text})::text)::uuid AS hash
       FROM ${qualified(relation.schema, relation.table)} WHERE ${where}) r
     WHERE text ~ '\\S' ORDER BY key COLLATE "C"`,
  );
}

async function readStored(tx: Executor, { relation, key, flagColumn }: Source, space: Space): Promise<Stored[]> {
  const [vector, hash, model] =
    space.store === 'table'
      ? ['embedding', 'hash', 'model']
      : ['', '_hash', '_model'].map((end) => ident(space.column + end));
  // The flag is the source's: where nothing is left to do it is down for every space.
  const stale = space.store === 'table' || flagColumn === undefined ? 'false' : ident(flagColumn);
  const from = space.store === 'table' ? `freshvec.vector_${space.id}` : qualified(relation.schema, relation.table);
  const rows = await tx.query<Omit<Stored, 'vector'> & { vector: string | null }>(
    `SELECT * FROM (
       SELECT ${keyArray(key)} AS key, ${vector}::text AS vector, ${hash} AS hash, ${model} AS model, ${stale} AS stale
       FROM ${from} WHERE ${vector} IS NOT NULL OR ${hash} IS NOT NULL OR ${model} IS NOT NULL OR ${stale}) r
     ORDER BY key COLLATE "C"`,
  );
  return rows.map((row) => ({ ...row, vector: row.vector === null ? null : readVector(row.vector) }));
}

function keyArray(key: Source['key']): string {
  return `ARRAY[${key.map(({ name }) => `${ident(name)}::text`).join(', ')}]`;
}

/** float4 is printed as the shortest text that reads back as the same. */
function readVector(text: string): number[] {
  return (JSON.parse(text) as number[]).map(Math.fround);
}

async function embedAll(model: EmbeddingModel, texts: readonly string[]): Promise<number[][]> {
  const all: number[][] = [];
  for (let at = 0; at < texts.length; at += model.limits.maxInputs) {
    const { vectors } = await model.embed(texts.slice(at, at + model.limits.maxInputs), { purpose: 'document' });
    all.push(...vectors.map((vector) => Array.from(vector)));
  }
  return all;
}

/** The models of a fixture, with something done while the provider works on these texts. */
export function whileEmbedding(models: Models, during: (texts: readonly string[]) => Promise<void>): Models {
  return {
    ...models,
    async forSpace(space) {
      const model = await models.forSpace(space);
      return {
        ...model,
        async embed(texts, options) {
          const result = await model.embed(texts, options);
          if (!isProbe(texts)) await during(texts);
          return result;
        },
      };
    },
  };
}

/** Works everything off with these models, as `work --once` does. */
export function workWith({ db }: Fixture, models: Models, batchKeys = 50): Promise<DrainReport> {
  const gates = createGates(db, {}, () => {});
  return drainOnce({ db, models, gates, slots: 3, batchKeys, signal: new AbortController().signal });
}
