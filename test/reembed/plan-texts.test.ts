import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LongTexts } from '../../src/catalog/long-texts.js';
import { cutOf } from '../../src/embed/cut.js';
import type { PlanSettings, ReembedDefinition, ReembedPlan } from '../../src/reembed/definition.js';
import { factOf, planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { alterSource, type PlanModel, planSource, verifyAdoption } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';

/** Of one text, in tokens of 4 letters. */
const LIMIT = 64;

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
});
afterEach(() => fixture.close());

async function model(): Promise<PlanModel> {
  const fake = await fixture.models.get('fake/b@12');
  const short = { ...fake, limits: { ...fake.limits, maxTokensPerInput: LIMIT } };
  const cut = (text: string, longTexts: LongTexts) => cutOf(short, text, longTexts);
  return { ...fake, spec: 'openai/b@12', pricePerMillionTokens: 1e6, maxTokensPerInput: LIMIT, cut };
}

const plan = async (settings: PlanSettings = {}, definition: ReembedDefinition = {}): Promise<ReembedPlan> =>
  planReembed(fixture.db, 'doc', { model: 'fake/b@12', ...definition }, await model(), settings);

/** A table of texts of so many letters each, and a source on it. */
async function documents(rows: number, letters: string, more: { readonly where?: string } = {}): Promise<void> {
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
    INSERT INTO doc SELECT i, repeat('word', (${letters}) / 4) FROM generate_series(1, ${rows}) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none', ...more });
}

test('a row whose content cannot be had is counted apart, and the others are planned', async () => {
  const { db } = fixture;
  await db.exec(
    `CREATE TABLE doc (id int PRIMARY KEY, body text); INSERT INTO doc SELECT i, i::text FROM generate_series(1, 300) i`,
  );
  const content = { sql: `('n' || body::int)` };
  await fixture.add({ table: 'doc', content, where: 'id > 0', model: 'fake/a@8', index: 'none' });
  await db.query(`UPDATE doc SET body = 'bad' WHERE id = 150`);
  const embedded: string[] = [];
  const embed = async (texts: readonly string[]) => void embedded.push(...texts);
  const planned = await plan({ embed, failedShare: 0.01 });
  expect(planned).toMatchObject({ rows: 299, failingRows: 1, tokens: 299, blockers: [] });
  expect(planned.notes).toContainEqual(expect.stringMatching(/fails on about 1 rows.*content_error/));
  expect(planned.notes.join('\n')).not.toContain('the gate');
  expect(embedded.every((text) => /^n\d+$/.test(text))).toBe(true);
  expect(factOf(planned, 'providerSeconds')).toBeGreaterThan(0);
  await startReembed(db, planned);
  const strict = await plan({ failedShare: 0.001 });
  expect(strict.notes).toContainEqual(
    expect.stringMatching(/About 1 of 299 rows will fail \(0\.33 %\).*gate `failures` lets 0\.1 % pass/),
  );
});

test('vectors that are to be taken over are looked at beside a row whose content cannot be had', async () => {
  const { db, models } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, v vector(12));
    INSERT INTO doc SELECT i, i::text FROM generate_series(1, 30) i`);
  const content = { sql: `('n' || body::int)` };
  const { source } = await fixture.add({ table: 'doc', content, model: 'fake/a@8', index: 'none' });
  const fake = await models.get('fake/b@12');
  const embed = async (texts: readonly string[]) => (await fake.embed(texts, { purpose: 'document' })).vectors;
  const vectors = await embed(Array.from({ length: 30 }, (_, i) => `n${i + 1}`));
  for (const [i, vector] of vectors.entries())
    await db.query('UPDATE doc SET v = $1::text::vector WHERE id = $2', [JSON.stringify([...vector]), i + 1]);
  await db.query(`UPDATE doc SET body = 'bad' WHERE id = 7`);
  const planned = await plan({}, { adopt: 'v' });
  expect(planned).toMatchObject({ rows: 29, adopts: 29, failingRows: 1, tokens: 0, blockers: [] });
  expect(await verifyAdoption(db, { source, space: planned.to }, embed)).toMatchObject({ rows: 20, alike: 20 });
});

test('the sample is of the whole table', async () => {
  await documents(1000, 'CASE WHEN i > 500 THEN 400 ELSE 4 END');
  const embedded = new Set<string>();
  const planned = await planReembed(fixture.db, 'doc', { model: 'fake/b@12' }, await fixture.models.get('fake/b@12'), {
    embed: async (texts) => texts.forEach((text) => void embedded.add(text)),
  });
  const truth = 500 * 100 + 500;
  expect(planned.tokens / truth).toBeGreaterThan(0.75);
  expect(planned.tokens / truth).toBeLessThan(1.25);
  expect(embedded.size).toBe(2);
  expect((await plan()).longRows).toBeGreaterThan(400);
});

test.each([
  { longTexts: 'refuse', perLong: 0 },
  { longTexts: 'truncate', perLong: LIMIT },
  { longTexts: 'chunk', perLong: 100 },
] as const)('texts that are too long are priced as they are sent: $longTexts', async ({ longTexts, perLong }) => {
  // Every tenth of 100 rows has 100 tokens, the others one.
  await documents(100, 'CASE WHEN i % 10 = 0 THEN 400 ELSE 4 END');
  if (longTexts !== 'refuse') await alterSource(fixture.db, 'doc', { longTexts });
  const planned = await plan({ failedShare: 0.05 });
  expect(planned).toMatchObject({ longRows: 10, maxTokensPerInput: LIMIT, source: { longTexts } });
  expect(planned.tokens).toBeGreaterThanOrEqual(90 + 10 * perLong);
  // Pieces are rounded up.
  expect(planned.tokens).toBeLessThanOrEqual(90 + 10 * perLong * 1.1);
  expect(planned.cost).toBeCloseTo(planned.tokens, 6);
  const definition = { table: 'doc', name: 'again', content: { columns: ['body'] }, column: 'e', longTexts };
  const added = await planSource(fixture.db, { ...definition, model: 'openai/b@12' }, await model());
  expect(added).toMatchObject({ longRows: 10, tokens: planned.tokens });
  const shut = planned.notes.filter((note) => note.includes('gate `failures`'));
  expect(shut).toEqual(
    longTexts === 'refuse'
      ? [expect.stringMatching(/About 10 of 100 rows will fail \(10 %\), 10 of them for too long.* lets 5 % pass/)]
      : [],
  );
});

test('a filter that few rows of a large table pass is followed until they are found', async () => {
  // 20 rows to a page: 500 pages are a twentieth of the table.
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text) WITH (fillfactor = 10, autovacuum_enabled = off);
    INSERT INTO doc SELECT i, 'word' FROM generate_series(1, 200000) i`);
  const where = 'id % 10007 = 0 OR id = 1';
  const definition = { table: 'doc', content: { columns: ['body'] }, where, model: 'fake/a@8', index: 'none' } as const;
  expect(await planSource(fixture.db, definition, await model())).toMatchObject({ rows: 20, rowsEstimated: false });
  await fixture.add({ ...definition, store: 'table' });
  expect(await plan({}, { store: 'table' })).toMatchObject({ rows: 20, tokens: 20, rowsEstimated: false });
});
