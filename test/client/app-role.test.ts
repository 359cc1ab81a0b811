import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, createClient } from '../../src/index.js';
import { freshvec } from '../cli/support.js';
import { as, createRole, type Role } from '../faults/roles.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
let app: Role;
let client: Client;
const STORES = ['column', 'table'] as const;

beforeAll(async () => {
  fixture = await openFixture();
  app = await createRole(fixture);
  for (const store of STORES) {
    const table = `memory_${store}`;
    await fixture.db.exec(`CREATE TABLE ${table} (id int PRIMARY KEY, body text, at timestamptz);
      INSERT INTO ${table} SELECT i, 'about ' || i FROM generate_series(1, 20) i;
      GRANT SELECT, UPDATE (body) ON ${table} TO ${app.name}`);
    await fixture.add({ table, content: { columns: ['body'] }, model: 'static/mini@128', store, index: 'none' });
  }
  await fixture.work();
  client = createClient({ databaseUrl: app.url, env: {}, configFile: false, onError: () => {} });
});
afterAll(async () => {
  await client.close();
  await app.drop();
  await fixture.close();
});

const refused = { code: 'privilege_missing', message: expect.stringContaining('freshvec schema grant') };

describe('the role of an app', () => {
  test('without a grant is told which one it needs', async () => {
    await expect(client.search('memory_column', { text: 'about 7' })).rejects.toMatchObject(refused);
    await expect(client.waitUntilFresh('memory_column', 7)).rejects.toMatchObject(refused);
    await as(app, async (own) => {
      await expect(client.enqueue(own, 'memory_column', [7])).rejects.toMatchObject(refused);
    });
  });

  test('only the owner of the schema may grant, and --dry-run grants nothing', async () => {
    const grant = (url: string, ...flags: string[]) =>
      freshvec(['schema', 'grant', app.name, ...flags, '--json'], { env: { DATABASE_URL: url } });
    const shown = await grant(fixture.url, '--dry-run');
    expect(shown.json()).toMatchObject({ role: app.name, granted: false });
    await expect(client.search('memory_column', { text: 'about 7' })).rejects.toMatchObject(refused);
    const granted = await grant(fixture.url);
    expect(granted.json()).toMatchObject({ granted: true, sql: shown.json<{ sql: string[] }>().sql });
    expect((await grant(app.url)).json()).toMatchObject({ error: { code: 'privilege_missing' } });
  });

  test.each(STORES)('once granted, enqueues, searches and waits: store %s', async (store) => {
    const source = `memory_${store}`;
    const { results } = await client.search(source, { text: 'about 7', k: 3 });
    expect(results).toHaveLength(3);
    await as(app, async (own) => {
      expect(await client.enqueue(own, source, [7])).toBe(1);
      expect((await own.query(`SELECT freshvec.enqueue('${source}', '8') AS n`)).rows).toEqual([{ n: 1 }]);
      const live = await own.query<{ fingerprint: string }>(`SELECT fingerprint FROM freshvec.live('${source}')`);
      const { vector } = await client.embed('static/mini@128', 'about 7');
      const found = await own.query('SELECT key FROM freshvec.search($1, $2, $3, 3)', [
        source,
        live.rows[0]?.fingerprint,
        JSON.stringify([...vector]),
      ]);
      expect(found.rows.map(({ key }) => Number(key))).toEqual(results.map(({ key }) => key));
      await own.query(`UPDATE ${source} SET body = 'edited' WHERE id = 9`);
    });
    expect(await client.enqueueNow(source, [9])).toBe(1);
    await expect(client.waitUntilFresh(source, 9, { timeoutMs: 0 })).rejects.toMatchObject({
      code: 'freshness_timeout',
    });
    await fixture.work();
    await client.waitUntilFresh(source, 9);
  });

  test('is told where the provider has put another model behind the name', async () => {
    const { db } = fixture;
    const [live] = await db.query<{ fingerprint: string }>(`SELECT fingerprint FROM freshvec.live('memory_column')`);
    await db.query(
      `INSERT INTO freshvec.probe (fingerprint, texts, vectors, changed_at, reason) VALUES ($1, '{x}', '{x}', now(), 'Another one.')`,
      [live?.fingerprint],
    );
    const search = () => client.search('memory_column', { text: 'about 7' });
    const code = () =>
      search().then(
        () => 'answered',
        (error: { code?: string }) => error.code,
      );
    await eventually(async () => (await code()) === 'embed_model_changed', { what: 'the refusal' });
    await db.query('DELETE FROM freshvec.probe');
  });

  test('may do nothing more', async () => {
    const tables = await fixture.db.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = 'freshvec'::regnamespace AND c.relkind IN ('r', 'v')`,
    );
    const rights = await fixture.db.query<{ right: string }>(
      `SELECT r || ' ' || c.relname AS right FROM pg_class c CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) r
       WHERE c.relnamespace = 'freshvec'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname NOT LIKE 'vector_%'
         AND has_table_privilege($1, c.oid, r) ORDER BY 1`,
      [app.name],
    );
    expect(tables.length).toBeGreaterThan(rights.length);
    expect(rights.map(({ right }) => right)).toEqual(
      ['failure', 'long_text', 'pointer', 'probe', 'schema_version', 'setting', 'source', 'space'].map(
        (name) => `SELECT ${name}`,
      ),
    );
  });
});
