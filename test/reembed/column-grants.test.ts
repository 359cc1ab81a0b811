import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { grantTo } from '../../src/catalog/grant.js';
import { type Client, createClient } from '../../src/index.js';
import * as control from '../../src/reembed/control.js';
import { as, createRole, type Role } from '../faults/roles.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { start, workUntil } from './support.js';

/** All that an app which was granted column by column has, of a source whose vectors are on the rows. */
const COLUMNS = ['id', 'body', 'embedding_stale', 'embedding', 'embedding_model', 'embedding_hash'];
const TABLES = {
  plain: 'CREATE TABLE memory (id int PRIMARY KEY, body text)',
  partitioned: `CREATE TABLE memory (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
    CREATE TABLE memory_1 PARTITION OF memory DEFAULT`,
};

describe('a role that was granted column by column', () => {
  let fixture: Fixture;
  let app: Role;
  let other: Role;
  let client: Client;
  beforeEach(async () => {
    fixture = await openFixture();
    [app, other] = [await createRole(fixture), await createRole(fixture)];
    await grantTo(fixture.db, app.name);
    client = createClient({ databaseUrl: app.url, env: {}, configFile: false, onError: () => {} });
  });
  afterEach(async () => {
    await client.close();
    await app.drop();
    await other.drop();
    await fixture.close();
  });

  /** `role: privileges`, in order, of each column that has any. */
  const grantsOn = async (table: string) => {
    const rows = await fixture.db.query<{ name: string; grants: string }>(
      `SELECT a.attname AS name, string_agg(concat_ws(' ', pg_get_userbyid(NULLIF(x.grantee, 0)), x.privilege_type, x.is_grantable), ', '
         ORDER BY x.grantee, x.privilege_type) AS grants
       FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) x WHERE a.attrelid = $1::text::regclass GROUP BY a.attname`,
      [table],
    );
    return Object.fromEntries(rows.map(({ name, grants }) => [name, grants]));
  };

  async function added(table: keyof typeof TABLES): Promise<void> {
    const { db } = fixture;
    await db.exec(`${TABLES[table]}; INSERT INTO memory SELECT i, 'about ' || i FROM generate_series(1, 20) i`);
    await fixture.add({ table: 'memory', content: { columns: ['body'] }, model: 'static/mini@128', index: 'none' });
    await fixture.work();
    await db.exec(`GRANT SELECT (${COLUMNS.join(', ')}) ON memory TO ${app.name};
      GRANT UPDATE (embedding) ON memory TO ${other.name} WITH GRANT OPTION; GRANT SELECT (embedding) ON memory TO PUBLIC`);
  }

  const found = async () => (await client.search('memory', { text: 'about 7', k: 3 })).results.length;
  const everything = () => as(app, async (own) => (await own.query('SELECT * FROM memory')).rows.length);

  test.each([
    ['plain', {}],
    ['plain', { rename: true }],
    ['partitioned', { rename: true }],
  ] as const)('searches before, during and after a move: %s, %j', async (table, how) => {
    const { db } = fixture;
    await added(table);
    expect(await found()).toBe(3);
    const { id } = await start(fixture, 'memory', { model: 'static/mini@256' });
    await workUntil(fixture, id, ['ready']);
    expect(await found()).toBe(3);
    expect(await everything()).toBe(20);
    const grants = await grantsOn('memory');
    for (const suffix of ['', '_model', '_hash'])
      expect(grants[`embedding_2${suffix}`]).toBe(grants[`embedding${suffix}`]);
    expect(grants.embedding_2).toContain(`${other.name} UPDATE t`);
    await control.cutover(db, 'memory', how);
    expect(await found()).toBe(3);
    // Our client's word that it searches the old space counts for longer than the test lasts.
    await db.exec('DELETE FROM freshvec.reader');
    await control.complete(db, 'memory');
    await workUntil(fixture, id, ['done']);
    expect(await found()).toBe(3);
    expect(await everything()).toBe(20);
  });

  test('on a partition alone reads that partition as before', async () => {
    const { db } = fixture;
    await added('partitioned');
    await db.exec(`GRANT SELECT (id, embedding) ON memory_1 TO ${other.name}`);
    const { id } = await start(fixture, 'memory', { model: 'static/mini@256' });
    await workUntil(fixture, id, ['ready']);
    const read = await as(other, (own) => own.query('SELECT id, embedding_2 FROM memory_1'));
    expect(read.rows).toHaveLength(20);
    expect((await grantsOn('memory_1')).embedding_2).toBe(`${other.name} SELECT f`);
  });

  test('finds rows by vectors that moved to a table of their own', async () => {
    await added('plain');
    const { id } = await start(fixture, 'memory', { model: 'static/mini@256', store: 'table' });
    await workUntil(fixture, id, ['ready']);
    await control.cutover(fixture.db, 'memory');
    expect(await found()).toBe(3);
  });
});
