import { afterEach, beforeEach, expect, test } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import { listMaintainedSpaces } from '../../src/catalog/space.js';
import { alterSource, captureForStatements } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text, mark int)');
});
afterEach(() => fixture.close());

test.each([
  { reads: 'an SQL expression', content: { sql: `body || mark::text` }, where: undefined },
  { reads: 'the filter', content: { columns: ['body'] }, where: 'mark > 0' },
])('triggers are not made anew without a column that $reads reads', async ({ content, where }) => {
  const { db } = fixture;
  await fixture.add({ table: 'doc', content, where, model: 'fake/a@8' });
  const source = await getSource(db, 'doc');
  await db.exec('ALTER TABLE doc RENAME mark TO sign');
  const made = captureForStatements(db, source, await listMaintainedSpaces(db, source.id));
  await expect(made).rejects.toMatchObject({
    code: 'columns_gone',
    message: expect.stringContaining('no column mark'),
  });
});

test('a source that reads the row as a whole takes an alter after a column was dropped', async () => {
  const { db } = fixture;
  const content = { sql: 'doc::text' };
  await fixture.add({ table: 'doc', content, model: 'fake/a@8', store: 'table' });
  await db.exec('ALTER TABLE doc DROP mark');
  await alterSource(db, 'doc', { content });
  expect((await getSource(db, 'doc')).baseColumns).toEqual(['id', 'body']);
});
