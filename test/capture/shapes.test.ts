import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { ident, qualified } from '../../src/db/identifiers.js';
import { mendTriggerModes, removeSource } from '../../src/source/index.js';
import { addSource, ENGINES, type Subject, takeChanges, takeKeys } from './support.js';

/** 63 bytes in 31 characters; a name as long as PostgreSQL keeps. */
const LONGEST = `${'ä'.repeat(31)}x`;
const AWKWARD = [
  'we"ird',
  'we.ird',
  'select',
  "it's",
  'a b',
  '"; DROP TABLE freshvec.source; --',
  '$freshvec$',
  '$1',
  '日本語 表',
  'مرحبا',
  'E\\\\n',
  'new',
  'tg_argv',
  'fv_new',
  'key',
  'space_id',
  LONGEST,
];

describe.for(ENGINES)('capture of tables of every shape on %s', ([engine, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
  });
  afterAll(() => subject.close());

  // The SQL is the same on both: a few will do on the slower one.
  test.for(engine === 'PGlite' ? AWKWARD.slice(0, 3) : AWKWARD)(
    'a table, its key, content, filter and tenant called %s',
    async (name) => {
      const quoted = ident(name);
      await db.query(`CREATE SCHEMA IF NOT EXISTS ${quoted}`);
      for (const store of ['column', 'table'] as const) {
        // A column each for what may be one: content and filter; the key is a column of the same awkward kind.
        const key = ident(`${name.slice(0, 25)}k`);
        await db.query(`CREATE TABLE ${qualified(name, name)} (${key} bigint PRIMARY KEY, ${quoted} text)`);
        await addSource(db, {
          table: qualified(name, name),
          content: { columns: [name] },
          where: `${quoted} <> 'no'`,
          tenant: name,
          store,
        });
        await db.query(`INSERT INTO ${qualified(name, name)} VALUES (1, 'one'), (2, 'two')`);
        await db.query(`UPDATE ${qualified(name, name)} SET ${quoted} = 'new' WHERE ${key} = 2`);
        await db.query('SELECT freshvec.enqueue($1, $2)', [name, '07']);
        expect((await takeChanges(db)).map((change) => [change.key, change.tenant])).toEqual([
          ['1', 'one'],
          ['2', 'two'],
          ['2', 'new'],
          ['7', null],
        ]);
        await removeSource(db, name, { dropVectors: true });
        await db.query(`DROP TABLE ${qualified(name, name)}`);
      }
    },
  );

  test.for([
    ['smallint', '7', '-7'],
    ['integer', '42', '0'],
    ['bigint', '9007199254740993', '-1'],
    ['uuid', '6f1b2c3d-0000-4000-8000-000000000001', '6f1b2c3d-0000-4000-8000-000000000002'],
    ['text', 'a "quoted", [text]', ' 日本 '],
    ['varchar(20)', 'abc', ''],
    ['date', '2024-01-31', '0044-03-15 BC'],
    ['timestamp', '2024-01-31 10:00:00.123456', 'infinity'],
    ['timestamptz', '2024-01-31 10:00:00.5+00', '-infinity'],
  ] as const)('a key of %s, under any DateStyle and TimeZone', async ([type, one, two]) => {
    for (const store of ['column', 'table'] as const) {
      await db.query(`CREATE TABLE typed (id ${type} PRIMARY KEY, t text)`);
      await addSource(db, { table: 'typed', content: { columns: ['t'] }, store });
      await db.tx(async (tx) => {
        await tx.query(`SET LOCAL datestyle = 'SQL, DMY'`);
        await tx.query(`SET LOCAL timezone = 'Asia/Kathmandu'`);
        await tx.query(`INSERT INTO typed VALUES ('${one}', 'x'), ('${two}', 'x')`);
        await tx.query(`UPDATE typed SET t = 'y'`);
        await tx.query('SELECT freshvec.enqueue($1, $2), freshvec.enqueue($1, $3)', ['typed', one, two]);
      });
      const keys = await takeKeys(db);
      // Inserted, updated, enqueued; the row updated first also for itself.
      const expected = [one, one, one, ...(store === 'column' ? [one] : []), two, two, two];
      expect(keys).toEqual(expected.sort((a, b) => (Buffer.from(a) < Buffer.from(b) ? -1 : 1)));
      await removeSource(db, 'typed', { dropVectors: true });
      await db.query('DROP TABLE typed');
    }
  });

  test('a composite key, as JSON array text', async () => {
    for (const store of ['column', 'table'] as const) {
      await db.query('CREATE TABLE pair (n int, at date, "na me" text, t text, PRIMARY KEY (n, "na me", at))');
      await addSource(db, { table: 'pair', content: { columns: ['t'] }, store });
      await db.tx(async (tx) => {
        await tx.query(`SET LOCAL datestyle = 'SQL, DMY'`);
        await tx.query(`INSERT INTO pair VALUES (1, '2024-01-31', 'a"b', 'x')`);
        await tx.query(`UPDATE pair SET t = 'y', n = 2`);
        await tx.query(`SELECT freshvec.enqueue('pair', '["02", "a\\"b", "2024-01-31"]')`);
        await tx.query(`SELECT freshvec.enqueue('pair', '{"at": "2024-01-31", "n": 2, "na me": "a\\"b"}')`);
      });
      const [first, second] = ['["1", "a\\"b", "2024-01-31"]', '["2", "a\\"b", "2024-01-31"]'];
      // The key that went away is a change only where its vector stays behind.
      const expected = store === 'column' ? [first, second, second, second] : [first, first, second, second, second];
      expect(await takeKeys(db)).toEqual(expected);
      await removeSource(db, 'pair', { dropVectors: true });
      await db.query('DROP TABLE pair');
    }
  });

  test('a unique index over NOT NULL columns stands in for a primary key', async () => {
    await db.query(
      'CREATE TABLE loose (a int UNIQUE, b uuid NOT NULL, c int NOT NULL, t text, UNIQUE (b, c) INCLUDE (t))',
    );
    const plan = await addSource(db, { table: 'loose', content: { columns: ['t'] } });
    expect(plan.source.key).toEqual([
      { name: 'b', type: 'uuid' },
      { name: 'c', type: 'integer' },
    ]);
  });

  test('content that the app rewrites in a BEFORE trigger', async () => {
    await db.query('CREATE TABLE slug (id int PRIMARY KEY, title text, slug text, n int)');
    await db.query(`CREATE FUNCTION make_slug() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN NEW.slug := lower(NEW.title) || coalesce(NEW.n, 0); RETURN NEW; END $$`);
    await db.query('CREATE TRIGGER zz BEFORE INSERT OR UPDATE ON slug FOR EACH ROW EXECUTE FUNCTION make_slug()');
    const plan = await addSource(db, { table: 'slug', content: { columns: ['slug'] }, store: 'column' });
    expect(plan.proposedStore).toBe('table');
    await db.query(`INSERT INTO slug VALUES (1, 'A'), (2, 'B')`);
    await db.query('UPDATE slug SET embedding_stale = false');
    await takeChanges(db);
    await db.query('UPDATE slug SET n = 5 WHERE id = 2');
    expect(await takeKeys(db)).toEqual(['2']);
    await db.query('UPDATE slug SET n = 5 WHERE id = 1');
    expect(await takeKeys(db)).toEqual(['1']);
  });

  describe.for(['column', 'table'] as const)('a BEFORE trigger of the app that fires after ours, %s store', (store) => {
    beforeAll(async () => {
      await db.query('CREATE TABLE final (id int PRIMARY KEY, t text, who text, n int)');
      await db.query(`CREATE OR REPLACE FUNCTION have_the_last_word() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.n = 1 THEN NEW.id := NEW.id + 100; END IF;
        IF NEW.n = 2 THEN NEW.who := 'late'; END IF;
        IF NEW.n = 3 THEN NEW.t := NEW.t || ' late'; END IF;
        RETURN NEW; END $$`);
      await db.query('CREATE TRIGGER zzzz BEFORE UPDATE ON final FOR EACH ROW EXECUTE FUNCTION have_the_last_word()');
      await db.query('ALTER TABLE final ENABLE ALWAYS TRIGGER zzzz');
      await addSource(db, { table: 'final', content: { columns: ['t'] }, tenant: 'who', store });
    });
    afterAll(async () => {
      await removeSource(db, 'final', { dropVectors: true });
      await db.query('DROP TABLE final');
    });

    test.for(['origin', 'replica'])('what it leaves is what is captured, under %s', async (role) => {
      await db.query(`TRUNCATE final`);
      await db.query(`INSERT INTO final VALUES (1, 'a', 'w', 0), (2, 'b', 'w', 0), (3, 'c', 'w', 0), (4, 'd', 'w', 0)`);
      if (store === 'column') await db.query('UPDATE final SET embedding_stale = false');
      await takeChanges(db);
      const written = async (sql: string) => {
        await db.tx(async (tx) => {
          await tx.query(`SET LOCAL session_replication_role = ${role}`);
          await tx.query(sql);
        });
        return (await takeChanges(db)).map(({ key, tenant }) => `${key} ${tenant}`);
      };
      expect(await written(`UPDATE final SET t = 'A', n = 1 WHERE id = 1`)).toEqual(['1 w', '101 w']);
      expect(await written(`UPDATE final SET t = 'B', n = 2 WHERE id = 2`)).toEqual(['2 late']);
      expect(await written('UPDATE final SET n = 3 WHERE id = 3')).toEqual(['3 w']);
      expect(await written('UPDATE final SET n = 4')).toEqual([]);
      expect(await written(`UPDATE final SET t = 'D' WHERE id = 4`)).toEqual(['4 w']);
    });
  });

  test('a BEFORE trigger that the app gets later is followed by maintenance', async () => {
    await db.query('CREATE TABLE later (id int PRIMARY KEY, t text, n int)');
    const { source } = await addSource(db, { table: 'later', content: { columns: ['t'] }, store: 'column' });
    await db.query(`INSERT INTO later VALUES (1, 'a', 0), (2, 'b', 0)`);
    await db.query('UPDATE later SET embedding_stale = false');
    expect(await mendTriggerModes(db, source)).toEqual([]);
    await db.query(`CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN NEW.t := NEW.t || NEW.n; RETURN NEW; END $$`);
    for (const [name, id] of [
      ['early', 1],
      ['zzzz', 2],
    ]) {
      await db.query(`CREATE TRIGGER ${name} BEFORE UPDATE ON later FOR EACH ROW EXECUTE FUNCTION counted()`);
      expect(await mendTriggerModes(db, source)).toEqual(['public.later']);
      expect(await mendTriggerModes(db, source)).toEqual([]);
      await takeChanges(db);
      await db.query('UPDATE later SET n = n + 1 WHERE id = $1', [id]);
      expect(await takeKeys(db)).toEqual([String(id)]);
      await db.query(`DROP TRIGGER ${name} ON later`);
    }
    await removeSource(db, 'later', { dropVectors: true });
    await db.query('DROP TABLE later');
  });

  test('generated columns as content, filter and tenant', async () => {
    await db.query(
      `CREATE TABLE gen (id int PRIMARY KEY, a text, b text, n int, who text GENERATED ALWAYS AS (lower(b)) STORED,
         whole text GENERATED ALWAYS AS (a || ' ' || b) STORED, big boolean GENERATED ALWAYS AS (n > 5) STORED)`,
    );
    for (const store of ['column', 'table'] as const) {
      const plan = await addSource(db, {
        table: 'gen',
        content: { columns: ['whole'] },
        where: 'big',
        tenant: 'who',
        store,
      });
      expect(plan.source.baseColumns).toEqual(['a', 'b', 'n']);
      await db.query(`INSERT INTO gen VALUES (1, 'a', 'B', 1)`);
      await db.query(`UPDATE gen SET a = 'c'`);
      await db.query(`UPDATE gen SET n = 9`);
      await db.query('UPDATE gen SET a = a, b = b, n = n');
      expect((await takeChanges(db)).map(({ key, tenant }) => [key, tenant])).toEqual([1, 2, 3].map(() => ['1', 'b']));
      await removeSource(db, 'gen', { dropVectors: true });
      await db.query('DELETE FROM gen');
    }
  });

  test('virtual generated columns, where the server has them', async ({ skip }) => {
    const [server] = await db.query<{ version: number }>(
      `SELECT current_setting('server_version_num')::int AS version`,
    );
    if ((server?.version ?? 0) < 180_000) skip();
    await db.query(
      `CREATE TABLE virt (id int PRIMARY KEY, a text, n int, whole text GENERATED ALWAYS AS ('<' || a || '>') VIRTUAL)`,
    );
    for (const store of ['column', 'table'] as const) {
      const plan = await addSource(db, { table: 'virt', content: { columns: ['whole'] }, store });
      expect(plan.source.baseColumns).toEqual(['a']);
      await db.query(`INSERT INTO virt VALUES (1, 'a', 1)`);
      await db.query(`UPDATE virt SET a = 'c'`);
      await db.query('UPDATE virt SET n = 2');
      expect(await takeKeys(db)).toEqual(['1', '1']);
      await removeSource(db, 'virt', { dropVectors: true });
      await db.query('DELETE FROM virt');
    }
  });

  test('json, which has no equality, and an SQL expression over it', async () => {
    await db.query('CREATE TABLE doc (id int PRIMARY KEY, j json, x xid8, n int)');
    const plan = await addSource(db, { table: 'doc', content: { sql: `j ->> 'text' || coalesce(x::text, '')` } });
    expect(plan.source.baseColumns).toEqual(['j', 'x']);
    await db.query(`INSERT INTO doc VALUES (1, '{"text": "a"}')`);
    await db.query('UPDATE doc SET embedding_stale = false');
    await takeChanges(db);
    await db.query(`UPDATE doc SET j = '{"text": "a"}', n = 2`);
    expect(await takeKeys(db)).toEqual([]);
    await db.query(`UPDATE doc SET j = '{"text": "b"}'`);
    expect(await takeKeys(db)).toEqual(['1']);
  });

  test('two sources on one table, each with its own', async () => {
    await db.query('CREATE TABLE two (id int PRIMARY KEY, title text, body text)');
    await addSource(db, { table: 'two', content: { columns: ['title'] } });
    await addSource(db, { table: 'two', name: 'two-bodies', column: 'body_vector', content: { columns: ['body'] } });
    const spaces = await db.query<{ id: number }>('SELECT id FROM freshvec.space ORDER BY id DESC LIMIT 2');
    const [bodies, titles] = spaces.map(({ id }) => id);
    await db.query(`INSERT INTO two VALUES (1, 'a', 'b')`);
    expect((await takeChanges(db)).map(({ space }) => space)).toEqual([titles, bodies]);
    await db.query('UPDATE two SET embedding_stale = false, body_vector_stale = false');
    await takeChanges(db);
    await db.query(`UPDATE two SET body = 'c'`);
    expect((await takeChanges(db)).map(({ space }) => space)).toEqual([bodies]);
    expect(await db.query(`SELECT freshvec.enqueue('public.two', '1') AS n`)).toEqual([{ n: 2 }]);
    await removeSource(db, 'two', { dropVectors: true });
    await takeChanges(db);
    await db.query(`INSERT INTO two VALUES (2, 'a', 'b')`);
    expect((await takeChanges(db)).map(({ space }) => space)).toEqual([bodies]);
  });
});
