import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listFailures } from '../../src/claim/failures.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { waitUntilFresh } from '../../src/status/wait-until-fresh.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;

beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

describe('a row whose content cannot be had', () => {
  test.each(['column', 'table'] as const)('fails alone, edited or met in a visit (%s)', async (store) => {
    const table = `c_${store}`;
    await fixture.db.exec(
      `CREATE TABLE ${table} (id int PRIMARY KEY, body text); INSERT INTO ${table} SELECT i, i::text FROM generate_series(1, 900) i`,
    );
    await fixture.add({
      table,
      content: { sql: `('n' || body::int)` },
      where: 'id > 0',
      model: 'fake/m@8',
      store,
      index: 'none',
    });
    await fixture.db.query(`UPDATE ${table} SET body = 'secret-bad' WHERE id = 5`);
    const wait = (key: number, timeoutMs?: number) => waitUntilFresh(fixture.db, table, key, { timeoutMs });
    await expect(wait(5, 0)).rejects.toMatchObject({ code: 'freshness_timeout' });
    expect(await fixture.work()).toMatchObject({ written: 899, failed: 1 });
    await wait(6);
    await expect(wait(5)).rejects.toMatchObject({
      code: 'row_failed',
      reason: { code: 'content_error' },
      message: expect.not.stringContaining('secret-bad'),
    });
    await fixture.db.query(
      `UPDATE ${table} SET body = CASE WHEN id = 7 THEN 'worse' ELSE '7' || body END WHERE id BETWEEN 6 AND 30`,
    );
    expect(await fixture.work()).toMatchObject({ written: 24, failed: 1 });
    const failures = await listFailures(fixture.db, table);
    expect(failures.map(({ key, code }) => [key, code])).toEqual([
      ['5', 'content_error'],
      ['7', 'content_error'],
    ]);
    expect(JSON.stringify(failures)).not.toContain('secret-bad');
    await sweep(fixture.db, table);
    expect(await fixture.work()).toMatchObject({ written: 0, failed: 0 });
    await fixture.db.query(`UPDATE ${table} SET body = '1' WHERE id IN (5, 7)`);
    expect(await fixture.work()).toMatchObject({ written: 2, failed: 0 });
    expect(await listFailures(fixture.db, table)).toEqual([]);
  });
});

test('a source that cannot be read keeps nobody from the others', async () => {
  const { db } = fixture;
  await db.exec(`CREATE TABLE gone (id int PRIMARY KEY, body text); CREATE TABLE whole (LIKE gone INCLUDING ALL)`);
  const definition = { content: { columns: ['body'] }, model: 'fake/m@8', index: 'none' } as const;
  await fixture.add({ table: 'gone', ...definition });
  const { store } = await fixture.add({ table: 'whole', ...definition });
  await db.exec(`ALTER TABLE gone RENAME COLUMN body TO words`);
  await db.exec(`INSERT INTO gone VALUES (1, 'one'); INSERT INTO whole VALUES (1, 'one')`);
  await expect(fixture.work()).rejects.toThrow('gone.body does not exist');
  expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 1, fresh: 1 });
  await db.exec(`ALTER TABLE gone RENAME COLUMN words TO body`);
  await fixture.work();
});

describe('force', () => {
  test('asked for while the key is held is paid for after', async () => {
    await fixture.db.exec(`CREATE TABLE f (id int PRIMARY KEY, body text); INSERT INTO f VALUES (1, 'one')`);
    const { space } = await fixture.add({
      table: 'f',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      index: 'none',
    });
    await fixture.work();
    await fixture.db.query(
      `INSERT INTO freshvec.lease (space_id, key, token, expires_at, since) VALUES ($1, '1', NULL, now(), now())`,
      [space.id],
    );
    await fixture.db.query(`SELECT freshvec.enqueue('f', '1', true)`);
    expect(await fixture.work()).toMatchObject({ written: 1 });
    await fixture.db.query(`SELECT freshvec.enqueue('f', '1', false)`);
    expect(await fixture.work()).toMatchObject({ written: 0, unpaid: 1 });
  });
});
