import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { copyLines } from './copy.js';
import { startWorker } from './long-worker.js';
import { as, createRole, type Role } from './roles.js';
import { expectFresh, type Held, MODEL, STORES } from './rows.js';
import { eachTry } from './support/tries.js';

const WRITES: Readonly<Record<string, (table: string) => string>> = {
  INSERT: (t) => `INSERT INTO ${t} SELECT i, 'app ' || i FROM generate_series(100, 110) i`,
  UPDATE: (t) => `UPDATE ${t} SET body = 'app edited ' || id WHERE id % 2 = 0`,
  'UPDATE of the key': (t) => `UPDATE ${t} SET id = id + 1000 WHERE id % 5 = 0`,
  UPSERT: (t) => `INSERT INTO ${t} VALUES (1, 'upserted') ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
  MERGE: (t) =>
    `MERGE INTO ${t} t USING (VALUES (3), (4)) s(id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET body = 'merged'`,
  DELETE: (t) => `DELETE FROM ${t} WHERE id % 3 = 0`,
  'two in a transaction': (t) =>
    `BEGIN; UPDATE ${t} SET body = 'one' WHERE id = 1; DELETE FROM ${t} WHERE id = 7; COMMIT`,
  'a search_path of traps': (t) =>
    `SET search_path = traps, pg_temp, public; UPDATE ${t} SET body = 'trapped ' || id WHERE id > 100; RESET search_path`,
  'SET ROLE to a role with less': (t) =>
    `SET ROLE editors; UPDATE ${t} SET body = 'by editors' WHERE id = 2; RESET ROLE`,
  TRUNCATE: (t) => `TRUNCATE ${t}`,
  'INSERT again': (t) => `INSERT INTO ${t} SELECT i, 'app again ' || i FROM generate_series(1, 30) i`,
};

describe("fault 44: app role without rights on freshvec's schema writes to the source [Q C]", () => {
  let fixture: Fixture;
  let app: Role;
  let editors: Role;
  beforeAll(async () => {
    fixture = await openFixture();
    app = await createRole(fixture);
    editors = await createRole(fixture);
    // What an app has that was there before freshvec; functions of its own stand before those of pg_catalog.
    await fixture.db.exec(`GRANT ${editors.name} TO ${app.name}; REVOKE ALL ON SCHEMA freshvec FROM PUBLIC;
      CREATE SCHEMA traps; GRANT USAGE ON SCHEMA traps TO PUBLIC;
      CREATE FUNCTION traps.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trap'; END $$;
      CREATE FUNCTION traps.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '0' $$;
      CREATE TABLE traps.change (trapped int)`);
  });
  afterAll(async () => {
    await app.drop();
    await editors.drop();
    await fixture.close();
  });

  const SHAPES = STORES.flatMap((store) => [['plain', store] as const, ['partitioned', store] as const]);

  test.for(SHAPES)('%s table, store %s', async ([shape, store], context) => {
    const { db } = fixture;
    const table = `note_${shape}_${store}`;
    const leaf = (i: number) =>
      `CREATE TABLE ${table}_${i} PARTITION OF ${table} FOR VALUES WITH (MODULUS 2, REMAINDER ${i});`;
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text) ${shape === 'plain' ? '' : 'PARTITION BY HASH (id)'};
      ${shape === 'plain' ? '' : leaf(0) + leaf(1)}
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 30) i;
      GRANT SELECT, INSERT, DELETE, TRUNCATE, UPDATE (id, body) ON ${table} TO ${app.name};
      GRANT SELECT (id), UPDATE (body) ON ${table} TO ${editors.name}`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    const worker = startWorker(fixture.url);
    try {
      await quiet(held);
      await as(app, async (client) => {
        await expect(client.query('SELECT FROM freshvec.change')).rejects.toThrow(/permission denied for schema/);
        // Q: by the server's own count, no statement waits for a lock any longer.
        await client.query(`SET lock_timeout = '100ms'`);
        await eachTry(context, [...Object.keys(WRITES), 'COPY'], async (name, attempt) => {
          if (name === 'COPY') await copyLines(app.url, `${table} (id, body)`, ['500\tcopied', '501\tcopied too']);
          else await client.query(WRITES[name]?.(table).replaceAll('editors;', `${editors.name};`) ?? '');
          // Now and then a worker that sleeps is rung for, now and then it is in the middle of its work.
          if (attempt % 3 === 2) await quiet(held);
        });
      });
      await quiet(held);
    } finally {
      await worker.stop();
    }
  });

  function quiet(held: Held): Promise<unknown> {
    const fresh = () => expectFresh(fixture, held, { text: 'body' }).then(() => true);
    return eventually(fresh, { timeoutMs: 15_000, intervalMs: 50, what: 'every row fresh' });
  }
});
