import { expect, test } from 'vitest';
import type { LabelledQuery } from '../../src/catalog/migration.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import { renderComparison } from '../../src/reembed/compare/text.js';
import { compareModels } from '../../src/reembed/compare.js';
import { evaluate } from '../../src/reembed/eval/evaluate.js';
import { scoreLabelled } from '../../src/reembed/eval/labelled.js';
import { renderText } from '../../src/reembed/eval/text.js';
import { labelledGate } from '../../src/reembed/gates/labelled.js';
import { startReembed } from '../../src/reembed/start.js';
import { contextOf, onBoth, type ReembedFixture, type TwoSpaces, textOf, twoSpaces } from './two-spaces.js';

const asking = (i: number, tenant?: string): LabelledQuery => ({
  query: textOf(i),
  ...(tenant !== undefined && { tenant }),
  relevant: [String(i)],
});
const from = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

/** Of so many texts: tenant a has each once, under its own number; tenant b twelve times. */
async function twoTenants(fixture: ReembedFixture, table: string, texts: number): Promise<TwoSpaces> {
  const rows = from(1, texts).flatMap((i) => [
    `(${i}, '${textOf(i)}', 'a')`,
    ...from(0, 12).map((n) => `(${1000 + 12 * i + n}, '${textOf(i)}', 'b')`),
  ]);
  return twoSpaces(fixture, {
    table,
    rows: 0,
    tenant: 'owner',
    indexed: false,
    create: `CREATE TABLE ${table} (id int PRIMARY KEY, body text, owner text);
      INSERT INTO ${table} VALUES ${rows.join(', ')}`,
  });
}

/** Gives rows the new vectors of a text that is like none of theirs. */
async function spoil({ db, models }: ReembedFixture, table: string, where: string): Promise<void> {
  const model = await models.get('static/mini@256');
  const { vectors } = await model.embed(['sql: DROP INDEX CONCURRENTLY'], { purpose: 'document' });
  await db.query(`UPDATE ${table} SET embedding_2 = $1::text::vector WHERE ${where}`, [
    JSON.stringify([...(vectors[0] ?? [])]),
  ]);
}

onBoth((fixture) => {
  test('what no search finds is left out and named, and hides no fall', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'lab_out', rows: 80, where: 'id < 40', indexed: false });
    await db.exec(`UPDATE lab_out SET body = ' ' WHERE id = 39`);
    const eligible = from(10, 12).map((i) => asking(i));
    await spoil(fixture(), 'lab_out', 'id IN (10, 11, 12)');
    const alone = await scoreLabelled(contextOf(fixture(), spaces, {}, eligible));
    expect(alone.recall.difference.mean).toBeCloseTo(-0.25, 12);

    const given = [...eligible, ...from(40, 10).map((i) => asking(i)), asking(39), asking(4711)];
    const context = contextOf(fixture(), spaces, {}, given);
    const scores = await scoreLabelled(context);
    expect(scores.recall).toEqual(alone.recall);
    expect(scores.ndcg).toEqual(alone.ndcg);
    expect(scores).toMatchObject({ leftOut: 12, unknownKeys: ['4711'], withoutTenant: 0 });
    expect([...scores.unfindableKeys].sort()).toEqual(from(39, 11).map(String));
    expect(labelledGate(scores, context).note).toMatch(
      /1 keys are not in the source \(4711\); 11 keys are of rows that no search finds \(.+\); 12 queries were left out$/,
    );
    expect(renderText(await evaluate(context))).toContain(
      'Keys of rows that no search of their query finds (filter, no text, another tenant): 40, 41',
    );
    // Even where all of them find their rows, these are no measure of what was given.
    const few = contextOf(fixture(), spaces, {}, [asking(20), asking(21), ...given.slice(12)]);
    expect(labelledGate(await scoreLabelled(few), few)).toMatchObject({ passed: false, value: '2 of 14 asked' });
  });

  test('a query of a tenant is answered by its rows: a model that is bad within one fails', async () => {
    const spaces = await twoTenants(fixture(), 'lab_tenants', 20);
    const queries = from(1, 12).map((i) => asking(i, 'a'));
    const context = contextOf(fixture(), spaces, {}, queries);
    const good = await scoreLabelled(context);
    expect(good).toMatchObject({ leftOut: 0, withoutTenant: 0, recall: { from: { mean: 1 }, to: { mean: 1 } } });
    expect(good.queries[0]).toMatchObject({ tenant: 'a', relevant: ['1'] });
    expect(labelledGate(good, context)).toMatchObject({ passed: true });
    await spoil(fixture(), 'lab_tenants', `owner = 'a' AND id <= 12`);
    const bad = await scoreLabelled(context);
    expect(bad.recall.from.mean).toBe(1);
    expect(bad.recall.to.mean).toBeLessThan(0.5);
    expect(labelledGate(bad, context)).toMatchObject({ passed: false });
    const nobodys = queries.map(({ query, relevant }) => ({ query, relevant }));
    const across = contextOf(fixture(), spaces, {}, nobodys);
    expect(labelledGate(await scoreLabelled(across), across).note).toMatch(
      /12 queries name no "tenant" and were asked of all$/,
    );
    // A row of another tenant is no answer that a model could give.
    const strange = contextOf(fixture(), spaces, {}, [...queries, asking(13, 'b'), asking(14, 'nobody')]);
    expect(await scoreLabelled(strange)).toMatchObject({ leftOut: 2, unfindableKeys: ['13', '14'] });
  });

  test('compare: among the rows of a query’s tenant, whose rows are sampled', async () => {
    const spaces = await twoTenants(fixture(), 'cmp_tenants', 30);
    const asked: string[] = [];
    const opened = async (spec: string): Promise<EmbeddingModel> => {
      const model = await fixture().models.get(spec);
      const embed: EmbeddingModel['embed'] = (texts, how) => {
        if (spec === 'static/mini@128' && how.purpose === 'query') asked.push(...texts);
        return model.embed(texts, how);
      };
      return { ...model, embed };
    };
    const context = {
      ...contextOf(fixture(), spaces),
      prices: {},
      models: { ...fixture().models, get: opened },
    };
    const models = ['static/mini@128', 'static/mini@256'];
    const queries = from(1, 10).map((i) => asking(i, 'a'));
    const options = { models, queries, sampleRows: 20 };
    const comparison = await compareModels(context, options);
    expect(comparison.models.map(({ recall }) => recall.mean)).toEqual([1, 1]);
    // None of another tenant's, which nothing would be searched for among.
    expect(comparison.how).toBe(
      `10 labelled queries, 10 of them among the rows of one tenant: ${comparison.rows} on average`,
    );
    expect(renderComparison(comparison)).not.toMatch(/Keys of rows/);
    // What two tenants ask is sent once.
    asked.length = 0;
    const both = [...queries, { query: textOf(1), tenant: 'b', relevant: from(1012, 12).map(String) }, asking(2, 'b')];
    const more = await compareModels(context, { ...options, queries: both });
    expect(more).toMatchObject({ queries: 11, unfindableKeys: ['2'] });
    expect(more.models.map(({ recall }) => recall.mean)).toEqual([1, 1]);
    expect(asked).toHaveLength(10);
    expect(renderComparison(more)).toMatch(/Keys of rows that no search of their query finds .*: 2\n/);
  });

  test('a tenant is refused where the source has none', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'lab_none', rows: 10, indexed: false });
    const { db } = fixture();
    const context = { ...contextOf(fixture(), spaces), prices: {} };
    const queries = [asking(1), asking(2, 'acme')];
    const models = ['static/mini@128', 'static/mini@256'];
    const refused = {
      code: 'queries_invalid',
      message: expect.stringMatching(/name the tenant "acme", but the source "lab_none" has no tenant column: leave/),
    };
    await expect(compareModels(context, { models, queries, sampleRows: 5 })).rejects.toMatchObject(refused);
    const plan = { source: spaces.source, from: spaces.from, to: spaces.to, blockers: [] as string[], rows: 10 };
    const start = startReembed(db, plan as unknown as Parameters<typeof startReembed>[1], { queries });
    await expect(start).rejects.toMatchObject(refused);
  });
});
