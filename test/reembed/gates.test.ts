import { expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import type { LabelledQuery } from '../../src/catalog/migration.js';
import { EmbedError } from '../../src/embed/port.js';
import { evaluate } from '../../src/reembed/eval/evaluate.js';
import { renderHtml } from '../../src/reembed/eval/html.js';
import { scoreLabelled } from '../../src/reembed/eval/labelled.js';
import { parseQueries } from '../../src/reembed/eval/queries.js';
import { renderText } from '../../src/reembed/eval/text.js';
import type { ModelSource } from '../../src/reembed/gates/context.js';
import { labelledGate } from '../../src/reembed/gates/labelled.js';
import { recomputedGate } from '../../src/reembed/gates/recomputed.js';
import { runGates } from '../../src/reembed/gates/run.js';
import { contextOf, onBoth, textOf, twoSpaces } from './two-spaces.js';

/** Each asks for a row by its own words, so both models find it. */
const QUERIES: LabelledQuery[] = Array.from({ length: 12 }, (_, i) => ({
  query: textOf(5 * i + 3),
  relevant: [String(5 * i + 3)],
}));

onBoth((fixture) => {
  test.each(['vector', 'halfvec'] as const)(
    'recomputed: each sampled vector is what the model gives for its text (%s)',
    async (type) => {
      const { db } = fixture();
      const table = `re_${type}`;
      const spaces = await twoSpaces(fixture(), { table, rows: 40, indexed: false });
      if (type === 'halfvec') {
        await db.exec(`ALTER TABLE ${table} ALTER embedding_2 TYPE halfvec(256)`);
        await db.query(`UPDATE freshvec.space SET vector_type = 'halfvec' WHERE id = $1`, [spaces.to.id]);
      }
      const context = contextOf(fixture(), { ...spaces, to: { ...spaces.to, type } }, { recomputedRows: 40 });
      const gate = await recomputedGate(context);
      expect(gate).toMatchObject({ name: 'recomputed', passed: true, bound: 0.99 });
      expect(gate.value).toBeGreaterThan(0.9999);

      await db.query(`UPDATE ${table} SET embedding_2 = (SELECT embedding_2 FROM ${table} WHERE id = 2) WHERE id = 20`);
      const wrong = await recomputedGate(context);
      expect(wrong).toMatchObject({ passed: false });
      expect(wrong.value).toBeLessThan(0.99);
      expect(wrong.note).toMatch(/1 are not of this model or text, for example of the rows 20:/);
      const lenient = contextOf(
        fixture(),
        { ...spaces, to: { ...spaces.to, type } },
        { recomputedRows: 40, recomputedLikeness: 0 },
      );
      expect(await recomputedGate(lenient)).toMatchObject({ passed: true, bound: 0 });
    },
  );

  test.each(['vector', 'halfvec'] as const)(
    'recomputed: a copy is compared with the live vectors, and asks no model (%s)',
    async (type) => {
      const { db } = fixture();
      const table = `re_copy_${type}`;
      const { source, from } = await twoSpaces(fixture(), { table, rows: 20, indexed: false });
      await db.exec(`ALTER TABLE ${table} ALTER embedding_2 TYPE ${type}(128) USING embedding::${type}(128);
        UPDATE ${table} SET embedding_2_model = embedding_model, embedding_2_hash = embedding_hash`);
      const to = { ...from, column: 'embedding_2', type };
      const noModel = () => Promise.reject(new Error('a model was asked'));
      const context = {
        ...contextOf(fixture(), { source, from, to }, { recomputedRows: 20 }),
        models: { get: noModel, forSpace: noModel },
      };
      const gate = await recomputedGate(context);
      expect(gate).toMatchObject({ name: 'recomputed', passed: true, bound: 0.99 });
      expect(gate.value).toBeGreaterThan(0.9999);
      expect(gate.note).toMatch(/of 20 stored vectors to those that they were copied from/);

      await db.query(`UPDATE ${table} SET embedding_2 = (SELECT embedding_2 FROM ${table} WHERE id = 2) WHERE id = 11`);
      expect(await recomputedGate(context)).toMatchObject({ passed: false, note: expect.stringMatching(/rows 11$/) });
      await db.exec('DELETE FROM freshvec.change');
    },
  );

  test('recomputed: a stale row is no wrong vector; a model that changed its meaning is refused', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 're_stale', rows: 20, indexed: false });
    await db.query(`UPDATE re_stale SET body = 'quite another text' WHERE id = 4`);
    const context = contextOf(fixture(), spaces, { recomputedRows: 20 });
    expect(await recomputedGate(context)).toMatchObject({ passed: true, note: expect.stringMatching(/of 19 stored/) });
    const other = { ...spaces, to: { ...spaces.to, fingerprint: 'static/mini@256#00000000' } };
    await db.query(`UPDATE re_stale SET embedding_2_model = 'static/mini@256#00000000'`);
    await expect(recomputedGate(contextOf(fixture(), other))).rejects.toMatchObject({ code: 'model_changed' });
    const gates = await runGates(contextOf(fixture(), other));
    expect(gates.find(({ name }) => name === 'recomputed')).toMatchObject({ passed: false, value: null });
    await db.exec('DELETE FROM freshvec.change');
  });

  test('labelled: the new model may be worse by no more than is allowed', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'lab', rows: 80, indexed: false });
    const context = contextOf(fixture(), spaces, {}, QUERIES);
    const even = await scoreLabelled(context);
    expect(even.queries).toHaveLength(12);
    expect(even).toMatchObject({ leftOut: 0, unknownKeys: [], recall: { from: { mean: 1 }, to: { mean: 1 } } });
    expect(even.queries[0]).toMatchObject({
      query: textOf(3),
      relevant: ['3'],
      from: { recall: 1 },
      to: { recall: 1 },
    });
    expect(labelledGate(even, context)).toMatchObject({ name: 'labelled', passed: true, bound: -0.02 });

    // Three of the twelve rows get the vectors of texts that are like none of the queries.
    const model = await fixture().models.get('static/mini@256');
    const { vectors } = await model.embed(['sql: DROP INDEX CONCURRENTLY'], { purpose: 'document' });
    await db.query('UPDATE lab SET embedding_2 = $1::text::vector WHERE id IN (3, 8, 13)', [
      JSON.stringify([...(vectors[0] ?? [])]),
    ]);
    const worse = await scoreLabelled(context);
    expect(worse.recall.difference.mean).toBeCloseTo(-0.25, 12);
    const gate = labelledGate(worse, context);
    expect(gate).toMatchObject({ passed: false });
    expect(gate.value).toBeLessThanOrEqual(-0.25);
    expect(gate.note).toMatch(
      /12 labelled queries: recall@10 1\.000 → 0\.750 \(−0\.250, 95 %: −\d\.\d+ to .+; worse by more than 0\.02/,
    );
    const lenient = contextOf(fixture(), spaces, { labelledDrop: 0.5 }, QUERIES);
    expect(labelledGate(worse, lenient)).toMatchObject({ passed: true, bound: -0.5 });
    // Turned round, the new one is better.
    const better = contextOf(fixture(), { ...spaces, from: spaces.to, to: spaces.from }, {}, QUERIES);
    expect(labelledGate(await scoreLabelled(better), better)).toMatchObject({ passed: true });
  });

  test('labelled: keys that are not there are said', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'lab_keys', rows: 20, indexed: false });
    const queries = [
      { query: textOf(7), relevant: ['007', 'seven', '700'] },
      { query: textOf(8), relevant: ['800'] },
    ];
    const context = contextOf(fixture(), spaces, {}, queries);
    const scores = await scoreLabelled(context);
    expect(scores).toMatchObject({ leftOut: 1, queries: [{ relevant: ['7'], to: { recall: 1 } }] });
    expect([...scores.unknownKeys].sort()).toEqual(['700', '800', 'seven']);
    expect(labelledGate(scores, context).note).toMatch(/3 keys are not in the source .*; 1 queries were left out/);
    const none = contextOf(fixture(), spaces, {}, queries.slice(1));
    expect(labelledGate(await scoreLabelled(none), none)).toMatchObject({ passed: false, value: null });
  });

  test('all of them hold on a healthy migration, and the report says so', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'healthy', rows: 150 });
    const context = contextOf(fixture(), spaces, { recallQueries: 10, overlapRows: 10 }, QUERIES);
    const gates = await runGates(context);
    expect(gates.map(({ name, passed, advisory }) => [name, passed, advisory ?? false])).toEqual([
      ['coverage', true, false],
      ['pending', true, false],
      ['failures', true, false],
      ['index', true, false],
      ['recall', true, false],
      ['recomputed', true, false],
      ['overlap', true, true],
      ['labelled', true, false],
    ]);
    const report = await evaluate(context);
    expect(report.gates).toEqual(gates);
    expect(report).toMatchObject({
      source: 'healthy',
      rows: 150,
      k: 10,
      from: { model: 'static/mini@128', latency: { searches: 10 } },
      to: { model: 'static/mini@256', latency: { searches: 10 } },
      recall: { queries: 10 },
      overlap: { rows: 10 },
    });
    expect(report.recall?.points.map(({ efSearch }) => efSearch)).toEqual([40, 80, 120, 160, 240, 400, 640, 1000]);
    expect(report.overlap.counts.reduce((sum, count) => sum + count, 0)).toBe(10);
    expect(report.to.distances.counts.reduce((sum, count) => sum + count, 0)).toBe(100);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    const text = renderText(report);
    expect(text).toMatch(/^healthy: static\/mini@128 → static\/mini@256, 150 rows/);
    expect(text).toMatch(/pass {2}coverage +0 +0 +all 150 rows/);
    expect(renderHtml(report)).toContain('every gate holds');

    // A report asks the models whatever holds, a run does not.
    let asked = 0;
    for (const { spec } of [spaces.from, spaces.to]) {
      const model = await context.models.get(spec);
      const embed = model.embed.bind(model);
      model.embed = (texts, options) => {
        asked += texts.length;
        return embed(texts, options);
      };
    }
    await db.query(
      'UPDATE healthy SET embedding_2 = NULL, embedding_2_model = NULL, embedding_2_hash = NULL WHERE id = 90',
    );
    const missed = await runGates(context);
    expect(asked).toBe(0);
    const waiting = {
      passed: false,
      advisory: true,
      value: null,
      note: 'not measured yet: first coverage must hold',
    };
    expect(missed.filter(({ passed }) => !passed)).toEqual([
      expect.objectContaining({ name: 'coverage', value: 1 }),
      expect.objectContaining({ name: 'recomputed', ...waiting }),
      expect.objectContaining({ name: 'labelled', ...waiting }),
    ]);
    const accepted = { ...context, migration: { ...context.migration, accepted: ['coverage'] } };
    expect((await runGates(accepted)).filter(({ passed }) => !passed).map(({ name }) => name)).toEqual(['coverage']);
    expect(asked).toBe(10 + 2 * QUERIES.length);
    await db.query(`INSERT INTO freshvec.change (space_id, key, at) VALUES ($1, '90', now() - interval '1 minute')`, [
      spaces.to.id,
    ]);
    expect(await runGates(context)).toEqual([
      expect.objectContaining({ name: 'pending', passed: false, note: expect.stringMatching(/once this one holds$/) }),
    ]);
    const late = { ...context, migration: { ...context.migration, accepted: ['pending'] } };
    expect((await runGates(late)).filter(({ passed }) => !passed).map(({ name }) => name)).toEqual(['pending']);
    await db.exec('DELETE FROM freshvec.change');
    const reported = await evaluate(context);
    expect(reported.gates.filter(({ passed }) => !passed).map(({ name }) => name)).toEqual(['coverage']);
    expect(renderText(reported)).toMatch(
      /FAIL {2}coverage +1 +0 +rows that no change, lease or failure knows of: 1 without a vector, for example 90/,
    );
    expect(renderHtml(reported)).toContain('1 of 8 gates do not hold: coverage');
  });

  test('composite keys, names that need quotes, another schema and store', async () => {
    await fixture().db.exec('CREATE SCHEMA "Od d"');
    const spaces = await twoSpaces(fixture(), {
      table: '"Od d"."We ird"',
      rows: 60,
      store: 'table',
      create: `CREATE TABLE "Od d"."We ird" (id int, "Pa""rt" text COLLATE "C" DEFAULT 'a"b', body text, PRIMARY KEY ("Pa""rt", id))`,
    });
    const queries = parseQueries('[{"query": "the observatory", "relevant": [["a\\"b", 3], ["a\\"b", 300]]}]');
    const settings = { recallQueries: 5, overlapRows: 5, labelledDrop: 1 };
    const context = contextOf(fixture(), spaces, settings, queries);
    const report = await evaluate(context);
    expect(report.gates.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.labelled).toMatchObject({ leftOut: 0, unknownKeys: ['["a\\"b","300"]'] });
    expect(report.labelled?.queries[0]?.relevant).toEqual(['["a\\"b", "3"]']);
    expect(report.overlap.rows).toBe(5);
  });

  test('a provider that does not answer fails its gate with the reason; an abort is an abort', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'down', rows: 30, indexed: false });
    const broken = async () => ({
      ...(await fixture().models.get('static/mini@256')),
      embed: () => Promise.reject(new EmbedError('unavailable', 'the provider is on fire')),
    });
    const models: ModelSource = { get: broken, forSpace: broken };
    const gates = await runGates({ ...contextOf(fixture(), spaces), models });
    expect(gates.filter(({ passed }) => !passed)).toEqual([
      {
        name: 'recomputed',
        passed: false,
        value: null,
        bound: null,
        note: expect.stringMatching(/could not be measured: /),
      },
    ]);
    const context = { ...contextOf(fixture(), spaces), signal: AbortSignal.abort(new Error('enough')) };
    await expect(runGates(context)).rejects.toThrow('enough');
  });

  test('money: what the gates embed is charged to the source within the day’s cap', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'capped', rows: 20, indexed: false });
    const budget = createGates(db, { prices: { 'static/mini': 2 }, capPerDay: 0 }, () => {});
    const paid = async (spec: string) => ({ ...(await fixture().models.get(spec)), account: 'test' });
    const models: ModelSource = { get: paid, forSpace: ({ spec }) => paid(spec) };
    const gates = await runGates({ ...contextOf(fixture(), spaces), models, budget });
    expect(gates.find(({ name }) => name === 'recomputed')).toMatchObject({
      passed: false,
      note: expect.stringMatching(/could not be measured: .*(cap|try again)/),
    });
    await budget.close();
  });
});
