import { expect, test } from 'vitest';
import { nextDueMs } from '../../src/claim/pending.js';
import { openFixture } from '../support/fixture.js';

test('what waits in a space that was dropped is not waited for', async () => {
  const fixture = await openFixture('pglite');
  try {
    await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text)');
    const { space } = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/p@8' });
    await fixture.db.query(
      `INSERT INTO freshvec.lease (space_id, key, expires_at, since) VALUES ($1, '1', now() + interval '1 minute', now())`,
      [space.id],
    );
    expect(await nextDueMs(fixture.db)).toBeGreaterThan(0);
    await fixture.db.query(`UPDATE freshvec.space SET state = 'dropped' WHERE id = $1`, [space.id]);
    expect(await nextDueMs(fixture.db)).toBeUndefined();
  } finally {
    await fixture.close();
  }
});
