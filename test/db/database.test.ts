import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { encodeVectorArray } from '../../src/db/vectors.js';
import { freshDatabase } from '../support/database.js';
import { freshEmbedded } from '../support/embedded.js';
import { eventually } from '../support/eventually.js';

interface Opened {
  readonly db: Database;
  drop(): Promise<void>;
}

async function postgres(): Promise<Opened> {
  const database = await freshDatabase();
  const onError = (error: unknown) => expect.unreachable(String(error));
  const options = { url: database.url, poolSize: 4, applicationName: 'database.test', onError };
  return { db: await openDatabase({ kind: 'postgres', ...options }), drop: () => database.drop() };
}

async function pglite(): Promise<Opened> {
  return { db: await freshEmbedded(), drop: async () => undefined };
}

describe.each([
  ['postgres', postgres],
  ['pglite', pglite],
] as const)('%s', (kind, open) => {
  let db: Database;
  let drop: () => Promise<void>;
  beforeAll(async () => {
    ({ db, drop } = await open());
    await db.exec('CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE note (id int PRIMARY KEY, body text)');
  });
  afterAll(async () => {
    await db.close();
    await db.close();
    await drop();
  });

  test('says what it is and where pgvector lives', async () => {
    expect(db.kind).toBe(kind);
    expect(await db.vectorExtension()).toEqual({ schema: 'public', version: expect.stringMatching(/^0\./) });
  });

  test('values come back in the same shapes', async () => {
    const [row] = await db.tx((tx) =>
      tx.query(
        `SELECT 9007199254740991::int8 AS big, '{1,-2,NULL}'::int8[] AS bigs, 1.50::numeric AS n, 0.1::float8 AS f,
                date '0044-03-15 BC' AS d, timestamp '2024-01-31 10:00:00.5' AS ts, true AS yes, '\\xdead'::bytea AS b,
                timestamptz '2024-01-31 10:00:00.123456+05:30' AS tz, timestamptz 'infinity' AS never,
                '{"a":[1,null]}'::jsonb AS j, '[1,2]'::json AS ja, '{"a b",c,NULL,"NULL","x\\"y\\\\,{}"}'::text[] AS texts,
                '{}'::text[] AS empty, '{{1,2},{3,4}}'::int4[] AS nested, '[2:3]={7,8}'::int4[] AS bounds,
                'ünï'::name AS name, '{a,b}'::name[] AS names, interval '1 day' AS i, NULL::int8 AS nothing`,
      ),
    );
    expect(row).toEqual({
      big: Number.MAX_SAFE_INTEGER,
      bigs: [1, -2, null],
      n: '1.50',
      f: 0.1,
      d: '0044-03-15 BC',
      ts: '2024-01-31 10:00:00.5',
      yes: true,
      b: Buffer.from('dead', 'hex'),
      tz: new Date('2024-01-31T04:30:00.123Z'),
      never: 'infinity',
      j: { a: [1, null] },
      ja: [1, 2],
      texts: ['a b', 'c', null, 'NULL', 'x"y\\,{}'],
      empty: [],
      nested: [
        [1, 2],
        [3, 4],
      ],
      bounds: [7, 8],
      name: 'ünï',
      names: ['a', 'b'],
      i: '1 day',
      nothing: null,
    });
  });

  test('parameters are sent in the same shapes', async () => {
    const at = new Date('2024-01-31T04:30:00.123Z');
    const texts = ['a', null, 'b"\\{},', ''];
    const params = [2 ** 40, texts, [[1, 2]], at, { x: [1] }, Buffer.from('hi'), true, 12n, undefined];
    const [row] = await db.query(
      `SELECT $1::int8 AS big, $2::text[] AS texts, $3::int4[] AS nested, $4::timestamptz AS at, $5::jsonb AS j,
              $6::bytea AS b, $7::bool AS yes, $8::int4 AS n, $9::text AS nothing`,
      params,
    );
    const b = Buffer.from('hi');
    const expected = { big: 2 ** 40, texts, nested: [[1, 2]], at, j: { x: [1] }, b, yes: true, n: 12, nothing: null };
    expect(row).toEqual(expected);
  });

  test('a bigint that a number cannot hold is refused, not rounded', async () => {
    const lost = db.query('SELECT 9007199254740993::int8');
    await expect(lost).rejects.toMatchObject({ code: 'int8_out_of_range' });
    expect(await db.query('SELECT 1 AS ok')).toEqual([{ ok: 1 }]);
  });

  test('vectors go as one binary array', async () => {
    const [type] = await db.query<{ oid: number }>(`SELECT 'vector'::regtype::oid AS oid`);
    const vectors = [Float32Array.of(1, -0.1, 3e-8), Float32Array.of(0, 5, 16777216)];
    const rows = await db.query<{ v: string }>('SELECT v::text AS v FROM unnest($1::vector[]) AS v', [
      encodeVectorArray(vectors, type?.oid ?? 0),
    ]);
    expect(rows.map(({ v }) => Float32Array.from(JSON.parse(v)))).toEqual(vectors);
    const none = [encodeVectorArray([], type?.oid ?? 0)];
    expect(await db.query('SELECT cardinality($1::vector[]) AS n', none)).toEqual([{ n: 0 }]);
  });

  test('tx commits, and pins what changes how values become text', async () => {
    const [row] = await db.tx(async (tx) => {
      await tx.query(`INSERT INTO note VALUES (1, 'kept')`);
      return tx.query(
        `SELECT timestamptz '2024-01-31 10:00+02' ::text AS tz, interval '1 day 2 hours' ::text AS i, 0.1::float4::text AS f`,
      );
    });
    expect(row).toEqual({ tz: '2024-01-31 08:00:00+00', i: '1 day 02:00:00', f: '0.1' });
    expect(await db.query('SELECT body FROM note WHERE id = 1')).toEqual([{ body: 'kept' }]);
  });

  test('tx rolls back when its function throws, and rethrows that', async () => {
    const boom = new Error('boom');
    const failed = db.tx(async (tx) => {
      await tx.query(`INSERT INTO note VALUES (2, 'lost')`);
      throw boom;
    });
    await expect(failed).rejects.toBe(boom);
    expect(await db.query('SELECT FROM note WHERE id = 2')).toEqual([]);
  });

  test('tx does not resolve when a swallowed error made the commit a rollback', async () => {
    const failed = db.tx(async (tx) => {
      await tx.query(`INSERT INTO note VALUES (3, 'lost')`);
      await tx.query('SELECT 1/0').catch(() => undefined);
    });
    await expect(failed).rejects.toThrow(/abort|failed/);
    expect(await db.query('SELECT FROM note WHERE id = 3')).toEqual([]);
  });

  test('tx survives an error that a savepoint undid; errors carry their SQLSTATE', async () => {
    await db.tx(async (tx) => {
      await tx.query('SAVEPOINT before');
      await expect(tx.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
      await tx.query('ROLLBACK TO before');
      await tx.query(`INSERT INTO note VALUES (4, 'kept')`);
    });
    expect(await db.query('SELECT body FROM note WHERE id = 4')).toEqual([{ body: 'kept' }]);
  });

  test('statements of one transaction may be asked for at once', async () => {
    const rows = await db.tx((tx) => Promise.all([1, 2, 3].map((n) => tx.query('SELECT $1::int AS n', [n]))));
    expect(rows.flat()).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  });

  test('a transaction whose first and last statements are told commits, or rolls back, as any other', async () => {
    const insert = 'INSERT INTO note VALUES ($1, $2)';
    const twice = (id: number, again: number) =>
      db.tx(
        async (tx) => {
          await tx.query(insert, [id, 'first']);
          return tx.query('INSERT INTO note VALUES ($1, $2) RETURNING id', [again, 'last'], { last: true });
        },
        { eager: true },
      );
    expect(await twice(501, 502)).toEqual([{ id: 502 }]);
    // The last statement fails, and the first one does.
    await expect(twice(503, 501)).rejects.toMatchObject({ code: '23505' });
    await expect(twice(501, 504)).rejects.toMatchObject({ code: '23505' });
    // A mistake of the caller's: it may have committed by then.
    const behind = db.tx(async (tx) => {
      await tx.query(insert, [505, 'kept'], { last: true });
      await tx.query(insert, [506, 'too late']);
    });
    await expect(behind).rejects.toThrow('last statement');
    expect(await db.query('SELECT id FROM note WHERE id > 500 AND id < 505 ORDER BY id')).toMatchObject([
      { id: 501 },
      { id: 502 },
    ]);
  });

  test('transactions asked for at once do not mix', async () => {
    await db.exec('CREATE TABLE tally (tx int, n int)');
    const one = (id: number) =>
      db.tx(async (tx) => {
        await tx.query('INSERT INTO tally VALUES ($1, 1)', [id]);
        await new Promise((resolve) => setTimeout(resolve, 5));
        await tx.query('INSERT INTO tally VALUES ($1, 2)', [id]);
        if (id % 2 === 1) throw new Error('odd');
      });
    await Promise.allSettled([1, 2, 3, 4, 5, 6].map(one));
    const rows = await db.query('SELECT tx, count(*)::int AS n FROM tally GROUP BY tx ORDER BY tx');
    expect(rows).toEqual([2, 4, 6].map((tx) => ({ tx, n: 2 })));
  });

  test('a session stands outside any transaction', async () => {
    await db.session(async (session) => {
      await session.query('CREATE INDEX CONCURRENTLY note_body ON note (body)');
    });
    const [index] = await db.query(`SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = 'note_body'::regclass`);
    expect(index).toEqual({ valid: true });
  });

  test('a script that fails half-way leaves no open transaction behind', async () => {
    await expect(db.exec('BEGIN; CREATE TABLE half (); SELECT 1/0; COMMIT')).rejects.toMatchObject({ code: '22012' });
    expect(await db.query(`SELECT to_regclass('half') IS NULL AS gone`)).toEqual([{ gone: true }]);
  });

  test('notifications arrive after the commit, until stopped', async () => {
    const got: string[] = [];
    const stop = await db.listen('bell', (payload) => got.push(payload));
    await db.tx(async (tx) => {
      await tx.query(`SELECT pg_notify('bell', 'one')`);
    });
    await db.query(`SELECT pg_notify('other', 'no'), pg_notify('bell', 'two')`);
    await eventually(() => got.length === 2, { what: 'two notifications' });
    expect(got).toEqual(['one', 'two']);
    await stop();
    await db.query(`SELECT pg_notify('bell', 'three')`);
    expect(got).toEqual(['one', 'two']);
  });
});
