import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { planSource, SourceRefused } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { createRole, type Role } from './roles.js';
import { expectFresh, MODEL, STORES, whileEmbedding, workWith } from './rows.js';

const EXPECTED = { text: 'body' };

/** How a policy comes to hide rows; the role that runs freshvec owns the table. */
const HIDE = (table: string) => `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
  CREATE POLICY even_ones ON ${table} USING (id % 2 = 0)`;
const SHOW = (table: string) => `ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`;

describe('fault 43: row-level security hides rows from the worker [refused or reported, C]', () => {
  let fixture: Fixture;
  let owner: Role;
  let db: Database;
  let own: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
    owner = await createRole(fixture);
    await fixture.db.exec(`GRANT CREATE, USAGE ON SCHEMA public TO ${owner.name};
      GRANT USAGE, CREATE ON SCHEMA freshvec TO ${owner.name};
      GRANT ALL ON ALL TABLES IN SCHEMA freshvec TO ${owner.name};
      GRANT ALL ON ALL SEQUENCES IN SCHEMA freshvec TO ${owner.name}`);
    db = await openDatabase({
      kind: 'postgres',
      url: owner.url,
      poolSize: 8,
      applicationName: 'owner',
      onError: () => {},
    });
    own = { ...fixture, db };
  });
  afterAll(async () => {
    await db.close();
    await fixture.db.exec('DELETE FROM freshvec.source');
    await owner.drop();
    await fixture.close();
  });

  async function setUp(table: string, store: StoreKind, hideFirst = false) {
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text);
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 20) i; ${hideFirst ? HIDE(table) : ''}`);
    return { table, content: { columns: ['body'] }, model: MODEL, store };
  }

  async function add(definition: Awaited<ReturnType<typeof setUp>>) {
    const plan = await planSource(db, definition, await fixture.models.get(MODEL));
    for (const { sql } of plan.statements) await db.exec(sql);
    return plan;
  }

  test.for(STORES)('hidden before: refused, and nothing is changed: store %s', async (store) => {
    const definition = await setUp(`before_${store}`, store, true);
    const refused = await add(definition).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(SourceRefused);
    expect(String(refused)).toMatch(/row-level security hides rows.*BYPASSRLS/);
    await db.exec(SHOW(definition.table));
    const held = await add(definition);
    await workWith(own, fixture.models);
    await expectFresh(own, held, EXPECTED);
  });

  test.for(STORES)('hidden later: reported, nothing taken for deleted: store %s', async (store, { task }) => {
    task.meta.tries = 4;
    const definition = await setUp(`later_${store}`, store);
    const { table } = definition;
    const held = await add(definition);
    await workWith(own, fixture.models);
    const reported = (promise: Promise<unknown>) =>
      expect(promise).rejects.toMatchObject({ code: 'rows_hidden', message: expect.stringMatching(/BYPASSRLS/) });

    // Hidden before the read.
    await db.exec(`UPDATE ${table} SET body = 'edited ' || id; ${HIDE(table)}`);
    await reported(workWith(own, fixture.models));
    await db.exec(SHOW(table));
    await workWith(own, fixture.models);
    await expectFresh(own, held, EXPECTED);

    // Between the read and the write.
    await db.exec(`UPDATE ${table} SET body = 'again ' || id`);
    const hiding = whileEmbedding(fixture.models, () => db.exec(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`));
    await reported(workWith(own, hiding));
    await db.exec(SHOW(table));
    await workWith(own, fixture.models);
    await expectFresh(own, held, EXPECTED);

    // In the sweep, which would prune vectors whose row it does not see.
    await db.exec(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
    await sweep(db, table);
    await reported(workWith(own, fixture.models));
    await db.exec(SHOW(table));
    await workWith(own, fixture.models);
    await expectFresh(own, held, EXPECTED);

    // A row that was really deleted, under a policy that hides others.
    await db.exec(`DELETE FROM ${table} WHERE id = 2; ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
    if (store === 'table') await reported(workWith(own, fixture.models));
    await db.exec(SHOW(table));
    await workWith(own, fixture.models);
    await expectFresh(own, held, EXPECTED);
  });

  test.for(STORES)('a worker in another role than the owner: store %s', async (store) => {
    const table = `other_${store}`;
    await fixture.db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text);
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 20) i; ${HIDE(table)};
      CREATE POLICY theirs ON ${table} TO ${owner.name} USING (id % 3 = 0)`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    await fixture.db.exec(`GRANT ALL ON ${table} TO ${owner.name};
      ${store === 'table' ? `GRANT ALL ON freshvec.vector_${held.space.id} TO ${owner.name}` : ''}`);
    await expect(workWith(own, fixture.models)).rejects.toMatchObject({ code: 'rows_hidden' });
    await fixture.db.exec(`ALTER ROLE ${owner.name} BYPASSRLS`);
    await workWith(own, fixture.models);
    await expectFresh(fixture, held, EXPECTED);
    await fixture.db.exec(`ALTER ROLE ${owner.name} NOBYPASSRLS; DELETE FROM freshvec.source WHERE name = '${table}'`);
  });
});
