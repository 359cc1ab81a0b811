import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { enqueue, type KeyInput } from '../../src/capture/index.js';
import type { Database } from '../../src/db/database.js';
import { addSource, ENGINES, type Subject, takeChanges, takeKeys } from './support.js';

describe.for(ENGINES)('enqueue on %s', ([, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
    await db.query('CREATE SCHEMA app');
    await db.query('CREATE TABLE app.memory (id bigint PRIMARY KEY, t text, u text)');
    await addSource(db, { table: 'app.memory', content: { columns: ['t'] } });
    await addSource(db, { table: 'app.memory', name: 'second', column: 'other', content: { columns: ['u'] } });
    await db.query('CREATE TABLE word (id varchar(5) PRIMARY KEY, t text)');
    await addSource(db, { table: 'word', content: { columns: ['t'] } });
    await db.query('CREATE TABLE pair (a int, b text, t text, PRIMARY KEY (a, b))');
    await addSource(db, { table: 'pair', content: { columns: ['t'] } });
  });
  afterAll(() => subject.close());

  const call = async (source: string | null, key: string | null, force?: boolean) => {
    const rows = await db.query<{ n: number }>(
      `SELECT freshvec.enqueue($1, $2${force === undefined ? '' : `, ${force}`}) AS n`,
      [source, key],
    );
    return rows[0]?.n;
  };

  test('by the name of a source, and by the name of a table for every source on it', async () => {
    expect(await call('second', '1')).toBe(1);
    expect(await call('app.memory', '2')).toBe(2);
    expect(await call('App."memory"', '3')).toBe(2);
    expect(await call('memory', '4')).toBe(1);
    const changes = await takeChanges(db);
    expect(changes.map(({ key, lane, force }) => [key, lane, force])).toEqual(
      ['1', '2', '2', '3', '3', '4'].map((key) => [key, 0, null]),
    );
  });

  test('the key is written as capture writes it', async () => {
    await call('memory', '0042');
    await call('memory', ' 7 ');
    await call('word', '007');
    await call('pair', '["01", "x"]');
    await call('pair', '[1, "x"]');
    await call('pair', '{"b": "x", "a": 1}');
    const pair = '["1", "x"]';
    expect(await takeKeys(db)).toEqual(['007', '42', '7', pair, pair, pair]);
  });

  test('force is kept', async () => {
    await call('word', 'a', true);
    await call('word', 'b', false);
    expect((await takeChanges(db)).map(({ force }) => force)).toEqual([true, null]);
  });

  test.for([
    ['nothing', '1', /no source.*"nothing"/],
    ['not a "name', '1', /no source.*"not a "name"/],
    [null, '1', /no source/],
    ['memory', null, /key is null/],
    ['memory', 'abc', /key column "id" is no bigint/],
    ['memory', '99999999999999999999', /key column "id" is no bigint/],
    ['pair', '1', /a value for each of: a, b/],
    ['pair', 'abc', /JSON array or object/],
    ['pair', '[1]', /a value for each of: a, b/],
    ['pair', '[1, null]', /a value for each of: a, b/],
    ['pair', '{"a": 1}', /a value for each of: a, b/],
    ['pair', '{"a": 1, "b": 2, "c": 3}', /a value for each of: a, b/],
    ['pair', '["x", "y"]', /key column "a" is no integer/],
  ] as const)('%s %s is refused', async ([source, key, message]) => {
    await expect(call(source, key)).rejects.toThrow(message);
    expect(await takeKeys(db)).toEqual([]);
  });

  test('the SDK takes keys of any form, in the transaction of the app', async () => {
    const keys: KeyInput[] = [1, '2', 3n, 9007199254740993n, { id: 5 }];
    expect(await db.tx((tx) => enqueue({ query: (text, values) => tx.query(text, values) }, 'memory', keys))).toBe(5);
    expect(await enqueue({ query: (text, values) => db.query(text, values) }, 'pair', [{ b: 'x"y', a: 2n }])).toBe(1);
    expect(await enqueue({ query: (text, values) => db.query(text, values) }, 'pair', [])).toBe(0);
    expect(await takeKeys(db)).toEqual(['1', '2', '3', '5', '9007199254740993', '["2", "x\\"y"]']);

    const undone = db.tx(async (tx) => {
      await enqueue({ query: (text, values) => tx.query(text, values) }, 'memory', [1], { force: true });
      throw new Error('changed my mind');
    });
    await expect(undone).rejects.toThrow('changed my mind');
    expect(await takeKeys(db)).toEqual([]);
  });

  test('the SDK says what is wrong with a name or a key, as the database does', async () => {
    const client = { query: (text: string, values: unknown[]) => db.query(text, values) };
    const said: unknown = await enqueue(client, 'nothing', [1]).catch((error) => error);
    expect(said).toMatchObject({ code: 'source_unknown', cause: expect.objectContaining({ code: '42704' }) });
    expect(said).toHaveProperty(
      'message',
      expect.stringMatching(/^There is no source, .* "nothing"\. There are: .*second/),
    );
    await expect(enqueue(client, 'pair', [{ a: 1 }])).rejects.toMatchObject({ code: 'key_invalid' });
  });

  test('the SDK refuses numbers that are not exact, and clients that do not answer', async () => {
    const client = { query: (text: string, values: unknown[]) => db.query(text, values) };
    await expect(enqueue(client, 'memory', [1.5])).rejects.toMatchObject({ code: 'key_invalid' });
    await expect(enqueue(client, 'memory', [2 ** 60])).rejects.toMatchObject({ code: 'key_invalid' });
    await expect(enqueue({ query: async () => undefined }, 'memory', [1])).rejects.toMatchObject({
      code: 'client_unsupported',
    });
  });

  test('a client of node-postgres will do', async ({ skip }) => {
    if (subject.url === undefined) skip();
    const client = new pg.Client({ connectionString: subject.url });
    await client.connect();
    try {
      await client.query('BEGIN');
      expect(await enqueue(client, 'memory', [11, { id: 12 }], { force: true })).toBe(2);
      expect(await takeKeys(db)).toEqual([]);
      await client.query('COMMIT');
    } finally {
      await client.end();
    }
    expect((await takeChanges(db)).map(({ key, force }) => [key, force])).toEqual([
      ['11', true],
      ['12', true],
    ]);
  });
});
