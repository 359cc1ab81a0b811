import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { listFailures } from '../../src/claim/failures.js';
import { type Client, createClient } from '../../src/index.js';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { describeError } from '../../src/observe/log.js';
import { removeSource, SourceRefused } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectFresh, type Held, MODEL, STORES } from './rows.js';
import { eachTry } from './support/tries.js';

const name = pg.escapeIdentifier;
const text = pg.escapeLiteral;

/** Each is the name of a schema, a table, a key, two texts, a filter's column, a vector column and a source in turn. */
const NAMES = [
  'We"ird',
  "o'clock",
  'a.b.c',
  'select',
  'user',
  'x"; DROP TABLE innocent; --',
  "x'); DROP TABLE innocent; --",
  'таблица',
  '表の名前',
  '🙂 face',
  '%I %s %L $1 {}',
  'back\\slash\\',
  '$freshvec$',
  '$$',
  ' spaces ',
  'tab\there',
  'new\nline',
  '/* no comment',
  'fv_new',
  'fv_old',
  'new',
  'old',
  'l',
  'tg_argv',
  'key',
  'token',
  'UPPER',
  'é'.repeat(31),
  'x'.repeat(63),
] as const;

const ODD = 'it\'s "odd" $freshvec$ \\ %I\'; DROP TABLE innocent; --';
const MARKER = 'a-text-that-nobody-may-log';

describe('fault 31: names with quotes, dots, keywords, 63 bytes, SQL in them, other scripts [O P]', () => {
  let fixture: Fixture;
  let client: Client;
  beforeAll(async () => {
    fixture = await openFixture();
    client = createClient({ databaseUrl: fixture.url, env: {}, configFile: false });
    await fixture.db.exec('CREATE TABLE innocent (id int PRIMARY KEY); INSERT INTO innocent VALUES (1)');
  });
  afterAll(async () => {
    await client.close();
    await fixture.close();
  });

  test.for(STORES)('store %s', async (store, context) => {
    await eachTry(context, NAMES, (_, i) => lifeOfSource(i, store));
    expect(await fixture.db.query('SELECT id FROM innocent')).toEqual([{ id: 1 }]);
  });

  /** Added, worked off, edited, looked for, indexed, swept and taken away again. */
  async function lifeOfSource(i: number, store: StoreKind): Promise<void> {
    const { db } = fixture;
    const nth = (offset: number) => NAMES[(i + offset) % NAMES.length] as string;
    const [schema, table, key, title, body, filter] = [0, 1, 2, 3, 4, 5].map(nth) as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    const source = `${nth(6)} ${store}`;
    const column = shortened(nth(7));
    const relation = `${name(schema)}.${name(table)}`;
    await db.exec(`CREATE SCHEMA ${name(schema)};
      CREATE TABLE ${relation} (${name(key)} ${i % 2 === 0 ? 'bigint' : 'text'} PRIMARY KEY,
        ${name(title)} text, ${name(body)} text, ${name(filter)} text);
      INSERT INTO ${relation} SELECT i, 'title ' || i, ${text(ODD)} || i, CASE WHEN i > 15 THEN ${text(ODD)} END
      FROM generate_series(1, 20) i`);
    const bySql = i % 3 === 0;
    const sql = `concat_ws(${text(ODD)}, ${name(title)}, ${name(table)}.${name(body)})`;
    const content = bySql ? { sql } : { columns: [title, body] };
    const where = `${name(filter)} IS DISTINCT FROM ${text(ODD)}`;
    const definition = { table: relation, name: source, content, where, model: MODEL, store, column };
    const held = await fixture.add(definition);
    expect((await client.sources.plan(definition)).already).toBe(true);
    const expected = { text: bySql ? sql : `concat_ws(E'\\n\\n', ${name(title)}, ${name(body)})`, where };
    await quiet(held, expected);
    expect(await buildIndexes(db)).toBe(1);
    await db.exec(`UPDATE ${relation} SET ${name(body)} = ${text(MARKER)} WHERE ${name(key)}::text = '1';
      UPDATE ${relation} SET ${name(filter)} = ${text(ODD)} WHERE ${name(key)}::text = '2';
      UPDATE ${relation} SET ${name(key)} = '100' WHERE ${name(key)}::text = '3';
      DELETE FROM ${relation} WHERE ${name(key)}::text = '4';
      INSERT INTO ${relation} VALUES ('21', 'born', 'late', NULL)`);
    await quiet(held, expected);
    const vector = (
      await (
        await fixture.models.get(MODEL)
      ).embed([await textOf(relation, expected.text, key)], {
        purpose: 'query',
      })
    ).vectors[0] as Float32Array;
    const { results } = await client.search(source, { vector, k: 1, where: { [title]: 'title 5' } });
    expect(results).toMatchObject([{ key: i % 2 === 0 ? 5 : '5', stale: false, row: { [title]: 'title 5' } }]);
    expect(Object.keys(results[0]?.row ?? {})).toEqual([key, title, body, filter]);
    await db.tx(async (tx) => {
      expect(await client.enqueue({ query: (q, p) => tx.query(q, p) }, source, ['5'], { force: true })).toBe(1);
    });
    await db.query('SELECT freshvec.enqueue($1, $2)', [source, '6']);
    await fixture.work();
    await sweep(db, source);
    await quiet(held, expected);
    await removeSource(db, source, { dropVectors: true });
    const left = await db.query<{ column: string }>(
      `SELECT attname AS column FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`,
      [relation],
    );
    expect(left.map((row) => row.column)).toEqual([key, title, body, filter]);
    await db.exec(`DROP SCHEMA ${name(schema)} CASCADE`);
  }

  async function quiet(held: Held, expected: { text: string; where: string }): Promise<void> {
    await fixture.work();
    await expectFresh(fixture, held, expected);
  }

  async function textOf(relation: string, sql: string, key: string): Promise<string> {
    const [row] = await fixture.db.query<{ text: string }>(
      `SELECT ${sql} AS text FROM ${relation} WHERE ${name(key)}::text = '5'`,
    );
    return row?.text ?? '';
  }

  const EVIL = [
    'body) FROM note; DROP TABLE innocent; --',
    'body -- the rest is silence',
    "body); DROP TABLE innocent; SELECT (''",
    'body /* never closed',
    '$freshvec$; END; $freshvec$ DROP TABLE innocent',
    'pg_sleep(1)::text',
    'id ORDER BY 1',
    'body FROM note UNION SELECT 1',
    ') AS x, (SELECT current_user',
  ] as const;

  test('SQL that would be more than an expression is refused, and nothing is changed', async (context) => {
    const { db } = fixture;
    await db.exec(`CREATE TABLE note (id bigint PRIMARY KEY, body text); INSERT INTO note VALUES (1, ${text(MARKER)})`);
    const before = await db.query(
      'SELECT (SELECT count(*) FROM freshvec.source) AS n, (SELECT count(*) FROM pg_class) AS c',
    );
    await eachTry(context, EVIL, async (evil) => {
      await expect(fixture.add({ table: 'note', content: { sql: evil }, model: MODEL })).rejects.toThrow(SourceRefused);
      const asFilter = { table: 'note', content: { columns: ['body'] }, where: evil, model: MODEL };
      await expect(fixture.add(asFilter)).rejects.toThrow(SourceRefused);
    });
    expect(
      await db.query('SELECT (SELECT count(*) FROM freshvec.source) AS n, (SELECT count(*) FROM pg_class) AS c'),
    ).toEqual(before);
    expect(await db.query('SELECT id FROM innocent')).toEqual([{ id: 1 }]);
  });

  test('content that fails on a row is told without the row', async ({ task }) => {
    task.meta.tries = 2;
    const { db } = fixture;
    const definition = { table: 'note', content: { sql: 'body::int::text' }, model: MODEL };
    const refused = await fixture.add(definition).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(SourceRefused);
    expect(describeError(refused).message).not.toContain(MARKER);
    await db.exec(`UPDATE note SET body = '42'`);
    await fixture.add({ ...definition, store: 'column' });
    await fixture.work();
    await db.exec(`INSERT INTO note VALUES (2, ${text(MARKER)})`);
    expect(await fixture.work()).toMatchObject({ failed: 1 });
    expect(JSON.stringify(await listFailures(db, 'note'))).not.toContain(MARKER);
    await removeSource(db, 'note', { dropVectors: true });
  });

  test('a name of 64 bytes is refused', async () => {
    const { db } = fixture;
    await db.exec('CREATE TABLE long (id bigint PRIMARY KEY, body text)');
    const definition = { table: 'long', content: { columns: ['body'] }, model: MODEL };
    await expect(fixture.add({ ...definition, store: 'column', column: 'c'.repeat(58) })).rejects.toThrow(/57|fit/);
    await expect(fixture.add({ ...definition, content: { columns: ['b'.repeat(64)] } })).rejects.toThrow(SourceRefused);
    await expect(fixture.add({ ...definition, table: 't'.repeat(64) })).rejects.toThrow(SourceRefused);
  });
});

/** Leaves room for `_stale` and `_model`, at a character's border. */
function shortened(column: string): string {
  let short = column;
  while (Buffer.byteLength(short) > 57) short = short.slice(0, -1);
  return short;
}
