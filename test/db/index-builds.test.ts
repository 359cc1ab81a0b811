import { expect, test } from 'vitest';
import { findBuild } from '../../src/db/index-builds.js';
import { openPostgres } from '../../src/db/postgres.js';
import { openTransaction } from '../faults/index-builds.js';
import { createRole } from '../faults/roles.js';
import { eventually } from '../support/eventually.js';
import { openFixture } from '../support/fixture.js';

test('a build by another role is found, by a role that may not see which table it is at', async () => {
  const fixture = await openFixture();
  const role = await createRole(fixture);
  const plain = openPostgres({ url: role.url, poolSize: 1, applicationName: 'plain', onError: () => {} });
  try {
    await fixture.db.exec(`CREATE TABLE doc (id int, body text) PARTITION BY RANGE (id);
      CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (0) TO (10); CREATE TABLE other (id int)`);
    const oidOf = async (table: string) =>
      (await plain.query<{ oid: number }>('SELECT $1::text::regclass::oid::int8 AS oid', [table]))[0]?.oid ?? 0;
    const [doc, leaf, other] = [await oidOf('doc'), await oidOf('doc_1'), await oidOf('other')];
    const writer = await openTransaction(fixture.url, 'BEGIN', 'LOCK TABLE doc_1 IN ROW EXCLUSIVE MODE');
    const build = fixture.db.session((session) => session.query('CREATE INDEX CONCURRENTLY ON doc_1 (body)'));
    await eventually(async () => (await findBuild(plain, [leaf])) !== undefined, { what: 'the build' });
    expect(await findBuild(plain, [other, doc])).toBe(await findBuild(plain, [leaf]));
    expect(await findBuild(plain, [other])).toBe(undefined);
    await writer.query('COMMIT');
    await writer.end();
    await build;
    expect(await findBuild(plain, [doc, leaf])).toBe(undefined);
  } finally {
    await plain.close();
    await role.drop();
    await fixture.close();
  }
});
