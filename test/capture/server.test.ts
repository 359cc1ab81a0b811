import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { applySchema } from '../../src/catalog/schema.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { removeSource } from '../../src/source/index.js';
import { eventually } from '../support/eventually.js';
import { startPostgres } from '../support/servers.js';
import { addSource, openServer, type Subject, takeChanges, takeKeys } from './support.js';

describe('capture for an app of its own role', () => {
  let subject: Subject;
  let db: Database;
  const role = `fv_app_${process.pid}_${Math.random().toString(36).slice(2, 7)}`;
  beforeAll(async () => {
    subject = await openServer();
    db = subject.db;
    await db.query(`CREATE ROLE ${role} LOGIN NOSUPERUSER PASSWORD 'app'`);
    for (const table of ['notes', 'pages']) {
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, who text, t text, n int)`);
      await db.query(`GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ${table} TO ${role}`);
    }
    await addSource(db, { table: 'notes', content: { columns: ['t'] }, store: 'column' });
    await addSource(db, { table: 'pages', content: { columns: ['t'] }, store: 'table' });
  });
  beforeEach(async () => {
    await db.query('TRUNCATE notes, pages');
    await takeChanges(db);
  });
  afterAll(async () => {
    await db.query(`DROP OWNED BY ${role}`);
    await db.query(`DROP ROLE ${role}`);
    await subject.close();
  });

  async function asApp<T>(fn: (client: pg.Client) => Promise<T>): Promise<T> {
    const url = new URL(subject.url ?? '');
    url.username = role;
    url.password = 'app';
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    try {
      return await fn(client);
    } finally {
      await client.end();
    }
  }

  test('it needs no right on the schema freshvec, and a hostile search_path changes nothing', async () => {
    await asApp(async (app) => {
      await expect(app.query('SELECT * FROM freshvec.change')).rejects.toMatchObject({ code: '42501' });
      await app.query('CREATE TEMPORARY TABLE change (space_id int, lane int, key text, tenant text)');
      await app.query(
        `CREATE FUNCTION pg_temp.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$`,
      );
      await app.query('SET search_path = pg_temp, public, pg_catalog');
      for (const table of ['notes', 'pages']) {
        await app.query(`INSERT INTO public.${table} VALUES (1, 'a', 'one'), (2, 'b', 'two')`);
        await app.query(`UPDATE public.${table} SET t = 'new' WHERE id = 2`);
        await app.query(`DELETE FROM public.${table} WHERE id = 1`);
      }
      await app.query('TRUNCATE public.pages');
    });
    expect(await takeKeys(db)).toEqual(['1', '1', '1', '2', '2', '2', '2']);
  });

  test('nor is code of its own run with the rights of our owner', async () => {
    await db.query(`CREATE SCHEMA hostile AUTHORIZATION ${role}`);
    await asApp(async (app) => {
      await app.query('SET search_path = hostile, pg_catalog');
      const trap = (name: string, args: string, returns: string) =>
        app.query(`CREATE FUNCTION hostile.${name}(${args}) RETURNS ${returns} LANGUAGE plpgsql AS $$
          BEGIN IF current_user <> '${role}' THEN RAISE EXCEPTION 'trapped %', current_user; END IF; RETURN NULL; END $$`);
      for (const type of [
        'pg_catalog.text',
        'pg_catalog.int4',
        'pg_catalog.bool',
        'pg_catalog.int8',
        'pg_catalog.float8',
      ]) {
        await trap('compare', `${type}, ${type}`, 'pg_catalog.bool');
        for (const operator of ['=', '<>', '>', '<']) {
          await app.query(
            `CREATE OPERATOR hostile.${operator} (LEFTARG = ${type}, RIGHTARG = ${type}, FUNCTION = hostile.compare)`,
          );
        }
      }
      await trap('current_setting', 'pg_catalog.text, pg_catalog.bool', 'pg_catalog.text');
      await trap('current_setting', 'pg_catalog.text', 'pg_catalog.text');
      await trap('set_config', 'pg_catalog.text, pg_catalog.text, pg_catalog.bool', 'pg_catalog.text');
      await trap('now', '', 'pg_catalog.timestamptz');
      await trap('pg_sequence_last_value', 'pg_catalog.regclass', 'pg_catalog.int8');
      await app.query('CREATE DOMAIN hostile.text AS pg_catalog.int4');
      for (const table of ['notes', 'pages']) {
        await app.query(`INSERT INTO public.${table} VALUES (1, 'a', 'one'), (2, 'b', 'two')`);
        await app.query(`UPDATE public.${table} SET t = 'new'`);
        await app.query(`UPDATE public.${table} SET t = 'newer', n = 1`);
      }
    });
    await db.query('DROP SCHEMA hostile CASCADE');
    expect([...new Set(await takeKeys(db))]).toEqual(['1', '2']);
  });

  test('nor may it call the functions', async () => {
    await asApp(async (app) => {
      await expect(app.query(`SELECT freshvec.enqueue('notes', '1')`)).rejects.toMatchObject({ code: '42501' });
      await db.query(`GRANT USAGE ON SCHEMA freshvec TO ${role}`);
      await expect(app.query(`SELECT freshvec.enqueue('notes', '1')`)).rejects.toMatchObject({ code: '42501' });
      await db.query(`GRANT EXECUTE ON FUNCTION freshvec.enqueue(text, text, boolean) TO ${role}`);
      expect((await app.query(`SELECT freshvec.enqueue('notes', '1') AS n`)).rows).toEqual([{ n: 1 }]);
    });
    expect(await takeKeys(db)).toEqual(['1']);
  });

  test("row-level security of the app's is no hindrance", async () => {
    for (const table of ['notes', 'pages']) {
      await db.query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`);
      await db.query(`CREATE POLICY own ON ${table} USING (who = current_setting('app.who', true))`);
    }
    await db.query(`INSERT INTO notes VALUES (1, 'me', 'x'), (2, 'you', 'x')`);
    await db.query(`INSERT INTO pages VALUES (1, 'me', 'x'), (2, 'you', 'x')`);
    await takeChanges(db);
    await asApp(async (app) => {
      await app.query(`SET app.who = 'me'`);
      await app.query(`UPDATE notes SET t = 'new'`);
      await app.query(`UPDATE pages SET t = 'new'`);
      await app.query(`INSERT INTO pages VALUES (3, 'me', 'x')`);
      await app.query('DELETE FROM pages WHERE id = 1');
    });
    expect(await takeKeys(db)).toEqual(['1', '1', '1', '3']);
    for (const table of ['notes', 'pages']) await db.query(`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`);
  });
});

describe('capture on a server', () => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await openServer();
    db = subject.db;
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, t text, n int)');
    await addSource(db, { table: 'memory', content: { columns: ['t'] } });
  });
  afterAll(() => subject.close());

  test('the doorbell rings at commit, once, and only while a worker sleeps', async () => {
    const heard: string[] = [];
    const stop = await db.listen('freshvec', (payload) => heard.push(payload));
    const probe = async () => {
      // Notifications arrive in the order of commits, so whatever came before this one has been heard.
      await db.query(`SELECT pg_notify('freshvec', 'probe')`);
      await eventually(() => heard.includes('probe'));
      return heard.splice(0).filter((payload) => payload !== 'probe').length;
    };
    try {
      await db.query(`INSERT INTO memory VALUES (1, 'a')`);
      expect(await probe()).toBe(0);
      await db.query(`SELECT setval('freshvec.ring_until', extract(epoch FROM now())::bigint + 60)`);
      await db.query(`INSERT INTO memory VALUES (2, 'a')`);
      expect(await probe()).toBe(1);
      await db.tx(async (tx) => {
        await tx.query(`UPDATE memory SET t = 'b'`);
        await tx.query(`UPDATE memory SET t = 'c'`);
        await tx.query(`SELECT freshvec.enqueue('memory', '1')`);
      });
      expect(await probe()).toBe(1);
      await db.query('UPDATE memory SET n = 1');
      await db.query(`UPDATE memory SET t = 'd' WHERE id = 77`);
      await db.query('DELETE FROM memory WHERE id = 2');
      expect(await probe()).toBe(0);
    } finally {
      await stop();
      await db.query(`SELECT setval('freshvec.ring_until', 1)`);
      await takeChanges(db);
    }
  });

  test('a session whose snapshot is older than the source is captured too', async () => {
    await db.query('CREATE TABLE late (id int PRIMARY KEY, t text)');
    await db.query(`INSERT INTO late VALUES (1, 'a')`);
    const old = new pg.Client({ connectionString: subject.url });
    await old.connect();
    try {
      await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      await old.query('SELECT count(*) FROM memory');
      await addSource(db, { table: 'late', content: { columns: ['t'] } });
      await old.query(`UPDATE late SET t = 'b'`);
      await old.query(`INSERT INTO late (id, t) VALUES (2, 'b')`);
      await old.query('COMMIT');
    } finally {
      await old.end();
    }
    expect(await takeKeys(db)).toEqual(['1', '2']);
    await removeSource(db, 'late', { dropVectors: true });
  });

  test('text under a case-blind collation: a change of case is a change, of content and of key', async () => {
    await db.query(`CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`);
    for (const store of ['column', 'table'] as const) {
      await db.query(
        `CREATE TABLE tag (id text ${store === 'column' ? 'COLLATE blind' : ''} PRIMARY KEY, t text COLLATE blind)`,
      );
      await addSource(db, { table: 'tag', content: { columns: ['t'] }, store });
      await db.query(`INSERT INTO tag VALUES ('a', 'text'), ('b', 'text')`);
      await takeChanges(db);
      await db.query(`UPDATE tag SET t = 'Text' WHERE id = '${store === 'column' ? 'B' : 'b'}'`);
      expect(await takeKeys(db)).toEqual(['b']);
      await db.query(`UPDATE tag SET id = 'A' WHERE id = 'a'`);
      expect(await takeKeys(db)).toEqual(store === 'column' ? ['A'] : ['A', 'a']);
      await removeSource(db, 'tag', { dropVectors: true });
      await db.query('DROP TABLE tag');
    }
  });

  test('a foreign key that cascades', async () => {
    await db.query('CREATE TABLE owner (id int PRIMARY KEY)');
    await db.query(
      'CREATE TABLE owned (id int PRIMARY KEY, owner int REFERENCES owner ON DELETE CASCADE ON UPDATE CASCADE)',
    );
    await addSource(db, { table: 'owned', content: { sql: 'owner::text' }, store: 'table' });
    await db.query('INSERT INTO owner VALUES (1), (2)');
    await db.query('INSERT INTO owned VALUES (10, 1), (20, 2)');
    await takeChanges(db);
    await db.query('UPDATE owner SET id = 3 WHERE id = 1');
    expect(await takeKeys(db)).toEqual(['10']);
    await db.query('DELETE FROM owner WHERE id = 2');
    expect(await takeKeys(db)).toEqual(['20']);
  });
});

test('with two-phase commit on, nothing notifies and transactions can be prepared', async () => {
  const server = await startPostgres({ settings: { max_prepared_transactions: 2 } });
  const db = await openDatabase({
    kind: 'postgres',
    url: server.url,
    poolSize: 2,
    applicationName: 'freshvec-test',
    onError: () => undefined,
  });
  try {
    await applySchema(db, { queueBackend: 'postgres' });
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, t text)');
    const plan = await addSource(db, { table: 'memory', content: { columns: ['t'] } });
    expect(plan.notes.join()).toMatch(/max_prepared_transactions is not 0: workers poll/);
    await db.query(`SELECT setval('freshvec.ring_until', extract(epoch FROM now())::bigint + 60)`);
    await db.session(async (session) => {
      await session.query('BEGIN');
      await session.query(`INSERT INTO memory VALUES (1, 'a')`);
      await session.query(`SELECT freshvec.enqueue('memory', '1')`);
      await session.query(`PREPARE TRANSACTION 'one'`);
      await session.query(`COMMIT PREPARED 'one'`);
    });
    expect(await takeKeys(db)).toEqual(['1', '1']);
  } finally {
    await db.close();
    await server.stop();
  }
});
